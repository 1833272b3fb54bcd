//! "Did you mean": the known word nearest to a misspelt one. For fields, flags and annotation names.

/// Longer words are nobody's typing mistake, and the distance costs the product of both lengths.
const LONGEST: usize = 128;

/// The candidate with the fewest edits to `word` (insert, delete, replace, swap of neighbours; case counts nothing), if
/// it is near enough to be meant: at most a third of the word, at least one. The first of equally near ones wins.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let length = word.chars().count();
    let limit = (length / 3).clamp(1, 4);
    candidates
        .into_iter()
        // Each letter more or less is an edit: most names need no closer look.
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= limit)
        .filter_map(|candidate| {
            let far = edits(&word, &candidate.to_ascii_lowercase());
            (far <= limit).then_some((far, candidate))
        })
        .min_by_key(|(far, _)| *far)
        .map(|(_, candidate)| candidate)
}

/// Edit distance with swaps of neighbours (optimal string alignment).
fn edits(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (row, one) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in right.iter().enumerate() {
            let replaced = above.get(column).copied().unwrap_or(0) + usize::from(one != other);
            let inserted = current.get(column).copied().unwrap_or(0) + 1;
            let deleted = above.get(column + 1).copied().unwrap_or(0) + 1;
            let mut best = replaced.min(inserted).min(deleted);
            if let (Some(left_before), Some(right_before)) = (row.checked_sub(1), column.checked_sub(1))
                && left.get(left_before) == Some(other)
                && right.get(right_before) == Some(one)
            {
                best = best.min(before.get(right_before).copied().unwrap_or(0) + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut above, current);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(word: &str, expect: Option<&str>) {
        let known = ["backend", "path", "pathType", "ingressClassName", "tls", "rules"];
        assert_eq!(nearest(word, known), expect, "{word}");
    }

    #[test]
    fn the_nearest_word_is_found_and_far_ones_are_not() {
        check("pathtype", Some("pathType"));
        check("pahtType", Some("pathType"));
        check("bakend", Some("backend"));
        check("ingresClassname", Some("ingressClassName"));
        check("tsl", Some("tls"));
        check("", None);
        check("annotations", None);
        check(&"path".repeat(1 << 20), None);
    }

    #[test]
    fn distance_counts_each_kind_of_edit_once() {
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("abc", "abc"), 0);
        assert_eq!(edits("abc", "acb"), 1);
        assert_eq!(edits("abc", "axc"), 1);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
