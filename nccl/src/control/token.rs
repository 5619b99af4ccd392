//! The world's random number, for what else is made in its name.

use super::Control;
use super::peer;

impl Control {
    /// What only the ranks of this world know; it opens every data connection.
    pub(crate) fn token(&self) -> [u8; 16] {
        self.shared.token
    }

    /// A name for this world, different from that of every other, which opens nothing.
    pub(crate) fn world_name(&self) -> String {
        // Half of the token in a key of the store would still be a secret told.
        let [a, b] = [0, 8].map(|at| {
            let bytes = self.shared.token.iter().skip(at).take(8);
            bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
            })
        });
        peer::hex(&(a ^ b.rotate_left(32)).to_be_bytes())
    }
}
