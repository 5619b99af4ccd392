//! Byte strings and values as messages.

#![expect(clippy::cast_possible_truncation, reason = "ranks and turns are small numbers")]

use nccl::run_threads;
use tests::oracle::pattern;

const MIB: usize = 1 << 20;

#[test]
fn byte_strings_of_different_lengths_come_whole() {
    run_threads(4, |group| {
        let rank = group.rank();
        for lens in [[0, 0, 0, 0], [0, 1, 70_000, 5], [3 * MIB, 0, 2, 3]] {
            let all: Vec<_> = (0..4).map(|rank| pattern(rank, lens[rank], 2)).collect();
            for root in [0, 3] {
                let mut bytes = all[rank].clone();
                group.broadcast_bytes(&mut bytes, root)?;
                assert!(bytes == all[root]);
                let gathered = group.gather_bytes(&all[rank], root)?;
                assert!(gathered == (rank == root).then(|| all.clone()));
                let parts = if rank == root { &all[..] } else { &[] };
                assert!(group.scatter_bytes(parts, root)? == all[rank]);
            }
            assert!(group.all_gather_bytes(&all[rank])? == all);
        }
        let refused = group.scatter_bytes(&[Vec::new()], 0).unwrap_err();
        let expected = if rank == 0 { 4 } else { 0 };
        let text = format!("scatter_bytes: `parts` holds 1 elements, expected {expected}");
        assert_eq!(refused.to_string(), text);
        group.barrier()
    })
    .unwrap();
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Plan {
    name: String,
    layers: Vec<u32>,
    scale: Option<f64>,
}

#[test]
fn values_of_serde_types_come_whole() {
    run_threads(3, |group| {
        let plan = |rank: usize| Plan {
            name: "é".repeat(rank),
            layers: (0..rank as u32 * 1000).collect(),
            scale: (rank != 1).then_some(0.1),
        };
        let (rank, all) = (group.rank(), vec![plan(0), plan(1), plan(2)]);
        assert_eq!(group.broadcast_object((rank == 2).then(|| &all[2]), 2)?, all[2]);
        assert_eq!(group.all_gather_object(&all[rank])?, all);
        assert_eq!(group.gather_object(&all[rank], 1)?, (rank == 1).then(|| all.clone()));
        let parts = if rank == 0 { &all[..] } else { &[] };
        assert_eq!(group.scatter_object(parts, 0)?, all[rank]);
        // What is no value of the asked type is an error that names its sender.
        if rank == 0 {
            group.broadcast_object(Some(&7_u8), 0)?;
        } else {
            let error = group.broadcast_object::<Plan>(None, 0).unwrap_err().to_string();
            let text = "broadcast_object: what rank 0 sent is no value of this type: ";
            assert!(error.starts_with(text), "{error}");
        }
        group.barrier()
    })
    .unwrap();
}
