//! What the name of a file says: whether it is an archive, and of which version.

/// Endings of archives and of what they are compressed by, in lower case.
const ENDINGS: &[&str] = &[
    ".tar", ".gz", ".bz2", ".xz", ".lz", ".lzma", ".z", ".zst", ".zip", ".tgz", ".tbz", ".tbz2", ".txz",
    ".tlz", ".7z", ".jar",
];

/// Words that begin what is taken for a version, longer ones before those that they begin with.
const WORDS: &[&str] = &[
    "powerpc", "freebsd", "solaris", "release", "unknown", "mingw32", "latest", "stable", "darwin", "redhat",
    "rs6000", "mingw", "sparc", "apple", "macos", "linux", "sunos", "alpha", "win32", "beta", "hppa", "hpux",
    "irix", "i386", "i686", "mips", "libc", "w32", "sgi", "ibm", "aix", "sun", "elf", "hp",
];

/// The version in the name of an archive: what follows the first separator after which nothing but a
/// version comes; the whole name without its endings where there is none such.
pub(super) fn version(name: &str) -> &str {
    let mut stem = name;
    while let Some(shorter) = ENDINGS.iter().find_map(|e| without(stem, e)) {
        stem = shorter;
    }
    if stem.len() == name.len() {
        return "";
    }
    stem.match_indices(['-', '_', '.'])
        .filter(|(at, _)| *at > 0)
        .filter_map(|(at, separator)| stem.get(at + separator.len()..))
        .find(|rest| is_version(rest))
        .unwrap_or(stem)
}

/// What is before an ending, in whatever case, if there is something.
fn without<'a>(name: &'a str, ending: &str) -> Option<&'a str> {
    let at = name.len().checked_sub(ending.len()).filter(|at| *at > 0)?;
    let (stem, end) = name.split_at_checked(at)?;
    end.eq_ignore_ascii_case(ending).then_some(stem)
}

fn is_version(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        if rest.starts_with(|c: char| c.is_ascii_digit()) {
            return rest.chars().all(|c| c.is_alphanumeric() || "_.+:~-".contains(c));
        }
        let Some(after) = WORDS.iter().find_map(|word| rest.strip_prefix(word)) else { return false };
        rest = after.strip_prefix('-').unwrap_or(after);
    }
    !text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_words_come_before_those_that_they_begin_with() {
        for (n, word) in WORDS.iter().enumerate() {
            let hidden = WORDS[..n].iter().find(|earlier| word.starts_with(**earlier));
            assert_eq!(hidden, None, "{word}");
        }
    }
}
