//! Dumps of databases whose versions are joined to their packages: what of them is kept in memory, and how
//! much at a time.

use std::cmp::Ordering;

use crate::lister::Page;
use crate::model::Timestamp;

/// A package.
#[derive(Debug, Clone, Copy)]
pub(super) struct Package {
    pub(super) id: u64,
    /// Where its name begins among the names, and how long it is.
    name: (u32, u16),
    /// Its own date or the latest of its versions'; the earliest there is where it has none.
    updated: i64,
    /// Whether it is to be listed.
    pub(super) wanted: bool,
}

impl Package {
    pub(super) fn updated(&self) -> Option<Timestamp> {
        (self.updated > i64::MIN).then(|| Timestamp::from_micros(self.updated))
    }

    pub(super) fn update(&mut self, at: Option<Timestamp>) {
        self.updated = self.updated.max(at.map_or(i64::MIN, Timestamp::as_micros));
    }
}

/// More packages than any registry has. They are all in memory, so that there is a limit to them.
const MOST_PACKAGES: usize = 8_000_000;

/// The longest that their names are together.
const LONGEST_NAMES: usize = 256 << 20;

/// All packages, by id.
#[derive(Debug, Default)]
pub(super) struct Packages {
    names: String,
    pub(super) rows: Vec<Package>,
}

impl Packages {
    /// Adds a package; false where there are too many.
    pub(super) fn push(&mut self, id: u64, name: &str, updated: Option<Timestamp>, wanted: bool) -> bool {
        let (Ok(start), Ok(length)) = (u32::try_from(self.names.len()), u16::try_from(name.len())) else {
            return false;
        };
        self.names.push_str(name);
        let mut row = Package { id, name: (start, length), updated: i64::MIN, wanted };
        row.update(updated);
        self.rows.push(row);
        self.rows.len() <= MOST_PACKAGES && self.names.len() <= LONGEST_NAMES
    }

    /// Puts the packages in order. An id that is there twice is the error.
    pub(super) fn sort(&mut self) -> Result<(), u64> {
        self.rows.sort_unstable_by_key(|row| row.id);
        let twice = self.rows.windows(2).find_map(|pair| match pair {
            [a, b] if a.id == b.id => Some(a.id),
            _ => None,
        });
        twice.map_or(Ok(()), Err)
    }

    pub(super) fn find(&self, id: u64) -> Option<usize> {
        self.rows.binary_search_by_key(&id, |row| row.id).ok()
    }

    pub(super) fn name(&self, row: &Package) -> &str {
        slice(&self.names, row.name)
    }

    /// The first one from here on that is to be listed.
    pub(super) fn next_wanted(&self, from: usize) -> Option<usize> {
        let left = self.rows.get(from..).unwrap_or_default();
        left.iter().position(|row| row.wanted).map(|at| from + at)
    }
}

fn slice(texts: &str, (start, length): (u32, u16)) -> &str {
    let start = start as usize;
    texts.get(start..start + usize::from(length)).unwrap_or_default()
}

/// A version, as it is kept.
#[derive(Debug, Clone, Copy)]
struct Version<T> {
    /// The index of its package.
    of: u32,
    text: (u32, u16),
    more: T,
}

/// The versions of a stretch of packages, so many at most: where there are more, the stretch gets shorter.
/// Of each a text, and what else is known of it.
#[derive(Debug)]
pub(super) struct Versions<T> {
    texts: String,
    rows: Vec<Version<T>>,
    at_once: usize,
    /// The packages of the stretch, as indexes.
    pub(super) from: usize,
    pub(super) to: usize,
}

impl<T: Copy> Versions<T> {
    pub(super) fn new(from: usize, to: usize, at_once: usize) -> Self {
        Self { texts: String::new(), rows: Vec::new(), at_once, from, to }
    }

    /// Keeps a version of the package at an index. False where one package has more than can be kept.
    pub(super) fn push(&mut self, of: usize, text: &str, more: T) -> bool {
        if of < self.from || of >= self.to {
            return true;
        }
        let (Ok(index), Ok(start), Ok(length)) =
            (u32::try_from(of), u32::try_from(self.texts.len()), u16::try_from(text.len()))
        else {
            return false;
        };
        self.texts.push_str(text);
        self.rows.push(Version { of: index, text: (start, length), more });
        self.rows.len() <= self.at_once || self.shorten()
    }

    /// Leaves half of it to the next turn.
    fn shorten(&mut self) -> bool {
        let middle = self.rows.len() / 2;
        let (_, cut, _) = self.rows.select_nth_unstable_by_key(middle, |v| v.of);
        // The first package stays whole, or there would be no end.
        self.to = (cut.of as usize).max(self.from + 1);
        let to = self.to;
        self.rows.retain(|v| (v.of as usize) < to);
        let mut texts = String::with_capacity(self.texts.len() / 2);
        for row in &mut self.rows {
            let start = u32::try_from(texts.len()).unwrap_or(u32::MAX);
            texts.push_str(slice(&self.texts, row.text));
            row.text.0 = start;
        }
        self.texts = texts;
        self.rows.len() <= self.at_once
    }

    /// Puts them in order: by package, and those of one as `order` says.
    pub(super) fn sort(&mut self, order: impl Fn((&str, &T), (&str, &T)) -> Ordering) {
        let texts = &self.texts;
        let said = |v: &Version<T>| slice(texts, v.text);
        self.rows.sort_unstable_by(|a, b| {
            a.of.cmp(&b.of).then_with(|| order((said(a), &a.more), (said(b), &b.more)))
        });
    }

    /// Those of one package, after they were sorted.
    pub(super) fn of(&self, index: usize) -> impl Iterator<Item = (&str, &T)> {
        let key = |v: &Version<T>| v.of as usize;
        let start = self.rows.partition_point(|v| key(v) < index);
        let rows = self.rows.get(start..).unwrap_or_default();
        rows.iter().take_while(move |v| key(v) == index).map(|v| (slice(&self.texts, v.text), &v.more))
    }
}

/// What is left out: the first of it by name, the rest as a number. There may be as much of it as there
/// are rows.
#[derive(Debug, Default)]
pub(super) struct Skips {
    named: Vec<(String, &'static str)>,
    more: u64,
}

/// How much of what is left out is named.
const NAMED: usize = 1000;

impl Skips {
    pub(super) fn add(&mut self, what: impl FnOnce() -> String, why: &'static str) {
        if self.named.len() < NAMED {
            self.named.push((what(), why));
        } else {
            self.more += 1;
        }
    }

    pub(super) fn tell<C>(self, page: &mut Page<C>) {
        for (what, why) in self.named {
            page.skip(what, why);
        }
        if self.more > 0 {
            page.skip(format!("{} more", self.more), "for such reasons");
        }
    }
}

/// Whether a text can be a part of a URL as it is: letters and digits of ASCII, and these.
pub(super) fn is_plain(text: &str, others: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
    !text.is_empty() && text.len() <= 255 && text.chars().all(plain)
}

/// The beginning of a text, for what is said of it.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_gets_shorter_when_there_is_too_much_of_it() {
        let mut kept = Versions::new(0, 9, 4);
        for of in [8, 1, 5, 0, 5, 7, 2, 0] {
            assert!(kept.push(of, &format!("{of}.0"), of));
        }
        kept.sort(|a, b| a.cmp(&b));
        assert!(kept.to < 9 && kept.rows.len() <= 4, "{kept:?}");
        for of in kept.from..kept.to {
            let expected = [2, 1, 1, 0, 0, 2][of];
            assert_eq!(
                kept.of(of).filter(|(text, more)| *text == format!("{of}.0") && **more == of).count(),
                expected,
                "{of}"
            );
            assert_eq!(kept.of(of).count(), expected);
        }
        let mut one = Versions::new(3, 9, 2);
        assert!(one.push(3, "1", ()) && one.push(3, "2", ()));
        assert!(!one.push(3, "3", ()));
    }
}
