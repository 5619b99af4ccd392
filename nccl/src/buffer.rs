//! Buffers that operations own while they run.
#![expect(unsafe_code, reason = "a buffer is taken apart into pointer and lengths, and rebuilt")]

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use crate::dtype::Element;

mod sealed {
    use crate::dtype::Element;

    /// No type outside this crate is an owned buffer.
    #[expect(unnameable_types, reason = "so that nobody can implement it")]
    pub trait Sealed: Sized {
        /// What it holds.
        type Item: Element;
        /// Its elements; nothing is copied.
        fn into_vec(self) -> Vec<Self::Item>;
        /// The buffer of elements that [`Self::into_vec`] gave; nothing is copied.
        fn from_vec(vec: Vec<Self::Item>) -> Self;
    }
}

/// A buffer that an asynchronous operation takes and gives back when it is done.
///
/// Sealed; `Vec<T>` and `Box<[T]>` are. Their elements are on the heap and belong to nobody else,
/// so they stay where they are while the value that owns them is moved, and no safe code reads,
/// writes or frees them while the operation has the value. An array, which moves with its value,
/// or a shared pointer, which others read through, would not do.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be owned by an asynchronous operation",
    note = "give a Vec<T> or a Box<[T]>"
)]
pub trait OwnedBuffer: sealed::Sealed<Item = Self::Element> + Send + 'static {
    /// The type of its elements.
    type Element: Element;
}

impl<T: Element> OwnedBuffer for Vec<T> {
    type Element = T;
}

impl<T: Element> OwnedBuffer for Box<[T]> {
    type Element = T;
}

impl<T: Element> sealed::Sealed for Vec<T> {
    type Item = T;

    fn into_vec(self) -> Self {
        self
    }

    fn from_vec(vec: Self) -> Self {
        vec
    }
}

impl<T: Element> sealed::Sealed for Box<[T]> {
    type Item = T;

    fn into_vec(self) -> Vec<T> {
        self.into()
    }

    fn from_vec(vec: Vec<T>) -> Self {
        // The capacity is the length, as it came from a box, so this keeps the allocation.
        vec.into_boxed_slice()
    }
}

/// An owned buffer taken apart, so that pointers into it stay valid while this value moves.
///
/// A `Box` promises the compiler at every move that nobody else has a pointer into it, which is
/// why it is not kept as such. Whoever gives the pointer to something that runs on its own keeps
/// this value until that has stopped: dropping it frees the memory.
pub(crate) struct Held<B: OwnedBuffer> {
    ptr: NonNull<B::Element>,
    len: usize,
    capacity: usize,
    owner: PhantomData<B>,
}

// SAFETY: it owns its elements as the `Vec` does of which it was made, and `B` is `Send`; there is
// no way to the elements through a shared reference but by a raw pointer.
unsafe impl<B: OwnedBuffer> Send for Held<B> {}

impl<B: OwnedBuffer> Held<B> {
    /// Takes a buffer.
    pub(crate) fn new(buffer: B) -> Self {
        let mut vec = ManuallyDrop::new(buffer.into_vec());
        let (len, capacity) = (vec.len(), vec.capacity());
        // SAFETY: a vector's pointer is never null.
        let ptr = unsafe { NonNull::new_unchecked(vec.as_mut_ptr()) };
        Self { ptr, len, capacity, owner: PhantomData }
    }

    /// Where the elements are, for as long as this value is neither dropped nor given back.
    pub(crate) fn as_mut_ptr(&self) -> *mut B::Element {
        self.ptr.as_ptr()
    }

    /// How many elements there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Gives the buffer back, with what was written to it.
    pub(crate) fn give_back(self) -> B {
        let held = ManuallyDrop::new(self);
        B::from_vec(held.vec())
    }

    fn vec(&self) -> Vec<B::Element> {
        // SAFETY: the three parts are those of the vector that `new` took apart, whose elements
        // are initialized and stay so, since every bit pattern is an element. Called once: by
        // `give_back`, which prevents the drop, or by the drop.
        unsafe { Vec::from_raw_parts(self.ptr.as_ptr(), self.len, self.capacity) }
    }
}

impl<B: OwnedBuffer> Drop for Held<B> {
    fn drop(&mut self) {
        drop(self.vec());
    }
}

impl<B: OwnedBuffer> fmt::Debug for Held<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moves a value to other places: another frame, the heap and another thread.
    fn moved<T: Send + 'static>(value: T) -> T {
        let boxed = Box::new(value);
        *std::thread::spawn(move || boxed).join().unwrap()
    }

    #[test]
    fn elements_stay_where_they_are_while_the_value_moves() {
        let mut vec = Vec::with_capacity(10);
        vec.extend([1_u32, 2, 3]);
        let address = vec.as_ptr();
        let held = Held::new(vec);
        let ptr = held.as_mut_ptr();
        assert_eq!(ptr.cast_const(), address);
        let held = moved(held);
        assert_eq!((held.as_mut_ptr(), held.len()), (ptr, 3));
        // SAFETY: `held` is alive, and nothing else writes; index 1 is below its length.
        unsafe { ptr.add(1).write(20) };
        let vec: Vec<u32> = held.give_back();
        assert_eq!(vec, [1, 20, 3]);
        assert_eq!((vec.as_ptr(), vec.capacity()), (address, 10));
    }

    #[test]
    fn a_box_comes_back_as_the_same_allocation() {
        let boxed: Box<[half::bf16]> = vec![half::bf16::ONE; 5].into();
        let address = boxed.as_ptr();
        let held = moved(Held::new(boxed));
        assert_eq!(held.len(), 5);
        let back = held.give_back();
        assert_eq!(back.as_ptr(), address);
        assert_eq!(back.len(), 5);
    }

    #[test]
    fn an_empty_buffer_can_be_held_and_dropped() {
        drop(Held::new(Vec::<f32>::new()));
        assert_eq!(Held::new(Box::<[u8]>::default()).give_back().len(), 0);
        assert_eq!(format!("{:?}", Held::new(vec![1_u8, 2])), "Held { len: 2, .. }");
    }
}
