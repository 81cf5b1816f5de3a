//! In which order a search shows what it finds: class by class, and of a class the newest first. A row's class depends on
//! that row alone, so nothing that is written between two pages moves another row.

use super::Cursor;

/// In which of a media's texts all that is asked for must be. The later hold the earlier, unless some words must not be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum Within {
    Name,
    NameAndDescription,
    /// In those and the tags.
    All,
}

/// What matches in these texts, and is in no class before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Class {
    /// More is better. No two are alike, so a cursor's rank says with which of the two lists it was made.
    pub(super) rank: f64,
    pub(super) within: Within,
    /// Whether the last word may be the begin of one.
    pub(super) begins: bool,
}

const WITH_BEGINS: [Class; 6] = [
    Class { rank: 6.0, within: Within::Name, begins: false },
    Class { rank: 5.0, within: Within::Name, begins: true },
    Class { rank: 4.0, within: Within::NameAndDescription, begins: false },
    Class { rank: 3.0, within: Within::NameAndDescription, begins: true },
    Class { rank: 2.0, within: Within::All, begins: false },
    Class { rank: 1.0, within: Within::All, begins: true },
];

const WHOLE_WORDS: [Class; 3] = [
    Class { rank: 9.0, within: Within::Name, begins: false },
    Class { rank: 8.0, within: Within::NameAndDescription, begins: false },
    Class { rank: 7.0, within: Within::All, begins: false },
];

/// All classes, the best first.
pub(super) fn classes(begins: bool) -> &'static [Class] {
    if begins { &WITH_BEGINS } else { &WHOLE_WORDS }
}

/// Whether a page goes on in a list with begins of words.
pub(super) fn has_begins(after: &Cursor) -> bool {
    after.rank <= WITH_BEGINS[0].rank
}

/// What is still to be shown of a class.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) class: Class,
    /// The classes before it, without those that another of them surely holds.
    pub(super) above: Vec<Class>,
    /// The row behind which it goes on.
    pub(super) after: Option<&'a Cursor>,
}

/// What is to be shown behind `after`, in that order. Where a search `excludes` words, no class surely holds another one: what
/// is not in the name may be in the description.
pub(super) fn steps(begins: bool, excludes: bool, after: Option<&Cursor>) -> impl Iterator<Item = Step<'_>> {
    let all = classes(begins);
    let step = move |(n, &class): (usize, &Class)| {
        let is_held = |one: &Class| !excludes && all[..n].iter().any(|other| other != one && other.holds(one));
        let above = all[..n].iter().filter(|one| !is_held(one)).copied().collect();
        Step { class, above, after: after.filter(|after| after.rank == class.rank) }
    };
    let is_behind = move |step: &Step<'_>| after.is_none_or(|after| step.class.rank <= after.rank);
    all.iter().enumerate().map(step).filter(is_behind)
}

impl Class {
    /// Whether all that matches for `other` matches for it, where no words must not be there.
    fn holds(&self, other: &Self) -> bool {
        other.within <= self.within && other.begins <= self.begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_classes_before_one_only_the_widest_are_named() {
        let above = |begins, excludes| -> Vec<Vec<u8>> {
            steps(begins, excludes, None)
                .map(|step| step.above.iter().map(|class| class.rank as u8).collect())
                .collect()
        };
        assert_eq!(above(true, false), [vec![], vec![6], vec![5], vec![5, 4], vec![3], vec![3, 2]]);
        assert_eq!(above(false, false), [vec![], vec![9], vec![8]]);
        assert_eq!(above(false, true), [vec![], vec![9], vec![9, 8]]);
    }
}
