//! Slurm's compressed lists: `node[01-03,7],login` and `2(x3),1`.

/// The most hosts that a list may name.
const MAX_HOSTS: usize = 1 << 17;

/// The hosts of a list in order, brackets expanded; numbers keep their padding.
pub(super) fn expand(text: &str) -> Result<Vec<String>, String> {
    let mut hosts = Vec::new();
    for entry in split_outside_brackets(text)? {
        if entry.is_empty() {
            return Err("has an empty entry".into());
        }
        expand_entry(entry, &mut hosts)?;
    }
    Ok(hosts)
}

/// How many tasks run on the node `at` of a list like `2(x3),1`.
pub(super) fn tasks_on_node(text: &str, at: usize) -> Option<usize> {
    let mut left = at;
    for entry in text.split(',') {
        let (tasks, times) = match entry.split_once("(x") {
            Some((tasks, times)) => (tasks, times.strip_suffix(')')?.parse::<usize>().ok()?),
            None => (entry, 1),
        };
        if left < times {
            return tasks.parse().ok();
        }
        left -= times;
    }
    None
}

/// The parts between commas that are in no brackets.
fn split_outside_brackets(text: &str) -> Result<Vec<&str>, String> {
    let mut parts = Vec::new();
    let mut open = false;
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' if open => return Err("has a bracket inside a bracket".into()),
            b'[' => open = true,
            b']' if !open => return Err("has a `]` without a `[`".into()),
            b']' => open = false,
            b',' if !open => {
                parts.push(text.get(from..at).unwrap_or_default());
                from = at + 1;
            }
            _ => {}
        }
    }
    if open {
        return Err("has a `[` without a `]`".into());
    }
    parts.push(text.get(from..).unwrap_or_default());
    Ok(parts)
}

/// Appends the hosts of one entry; every bracket multiplies them, the last one fastest.
fn expand_entry(entry: &str, hosts: &mut Vec<String>) -> Result<(), String> {
    let mut made = vec![String::new()];
    let mut rest = entry;
    while let Some((before, after)) = rest.split_once('[') {
        let (inside, tail) = after.split_once(']').ok_or("has a `[` without a `]`")?;
        let numbers = numbers(inside)?;
        if made.len().saturating_mul(numbers.len()) > MAX_HOSTS {
            return Err(too_many());
        }
        made = made
            .iter()
            .flat_map(|head| numbers.iter().map(move |number| format!("{head}{before}{number}")))
            .collect();
        rest = tail;
    }
    if hosts.len() + made.len() > MAX_HOSTS {
        return Err(too_many());
    }
    hosts.extend(made.into_iter().map(|head| head + rest));
    Ok(())
}

/// The numbers of `01-03,7` as texts.
fn numbers(inside: &str) -> Result<Vec<String>, String> {
    let mut numbers = Vec::new();
    for part in inside.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let bounds = first.parse::<u64>().ok().zip(last.parse::<u64>().ok());
        let Some((low, high)) = bounds.filter(|_| digits(first) && digits(last)) else {
            return Err(format!("has brackets with something other than numbers: {part:?}"));
        };
        if high < low {
            return Err(format!("has a range that runs backwards: {part:?}"));
        }
        if usize::try_from(high - low).map_or(true, |more| more >= MAX_HOSTS - numbers.len()) {
            return Err(too_many());
        }
        let width = first.len();
        numbers.extend((low..=high).map(|number| format!("{number:0width$}")));
    }
    Ok(numbers)
}

fn too_many() -> String {
    format!("names more than {MAX_HOSTS} hosts")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn joined(text: &str) -> String {
        expand(text).unwrap().join(" ")
    }

    #[test]
    fn brackets_are_expanded_with_padding() {
        assert_eq!(joined("node0"), "node0");
        assert_eq!(joined("node[01-03,7],login"), "node01 node02 node03 node7 login");
        assert_eq!(joined("a[9-11]"), "a9 a10 a11");
        assert_eq!(joined("a[008-010]"), "a008 a009 a010");
        assert_eq!(joined("r[0-1]n[1,3]"), "r0n1 r0n3 r1n1 r1n3");
        assert_eq!(joined("r[1-2]-x.site"), "r1-x.site r2-x.site");
        assert_eq!(joined("tux[3],mux[1-2]"), "tux3 mux1 mux2");
    }

    #[test]
    fn what_is_no_list_says_why() {
        for (text, part) in [
            ("", "empty entry"),
            ("a,,b", "empty entry"),
            ("a[1", "without a `]`"),
            ("a1]", "without a `[`"),
            ("a[[1]]", "inside a bracket"),
            ("a[3-1]", "backwards"),
            ("a[x]", "other than numbers"),
            ("a[]", "other than numbers"),
            ("a[+1-2]", "other than numbers"),
            ("a[0-99999999999999]", "more than 131072"),
            ("a[0-999][0-999]", "more than 131072"),
        ] {
            let problem = expand(text).unwrap_err();
            assert!(problem.contains(part), "{text:?}: {problem}");
        }
    }

    #[test]
    fn tasks_are_counted_by_node() {
        let tasks: Vec<_> = (0..6).map(|at| tasks_on_node("2(x3),1,4", at)).collect();
        assert_eq!(tasks, [Some(2), Some(2), Some(2), Some(1), Some(4), None]);
        for text in ["", "2(x", "2(x3", "x", "2(xy)"] {
            assert_eq!(tasks_on_node(text, 0), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_list_or_an_error(text in "[a-z0-9,\\[\\]()x-]{0,40}", any in ".*", at: usize) {
            for text in [text, any] {
                let _ = tasks_on_node(&text, at);
                if let Ok(hosts) = expand(&text) {
                    prop_assert!(!hosts.is_empty() && hosts.len() <= MAX_HOSTS);
                }
            }
        }

        #[test]
        fn a_range_has_as_many_hosts_as_numbers(low in 0_usize..2000, more in 0_usize..200) {
            let hosts = expand(&format!("n[{low:04}-{:04}]", low + more)).unwrap();
            let expected: Vec<_> = (low..=low + more).map(|n| format!("n{n:04}")).collect();
            prop_assert_eq!(hosts, expected);
        }
    }
}
