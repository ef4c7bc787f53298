//! Archives of sources, by their names.

/// Endings of archives by themselves.
const ARCHIVES: &[&str] = &[".tar", ".zip", ".tgz", ".tbz", ".tbz2", ".txz", ".tlz"];

/// What may follow `.tar`.
const PACKED: &[&str] = &[".gz", ".bz2", ".xz", ".lz", ".lzma", ".z", ".zst"];

/// Whether it is the name of a source archive.
pub(super) fn is_archive(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let ends = |endings: &[&str]| endings.iter().find_map(|e| lower.strip_suffix(e).map(str::len));
    let whole = |rest: Option<usize>| rest.is_some_and(|length| length > 0);
    whole(ends(ARCHIVES))
        || ends(PACKED)
            .and_then(|length| lower.get(..length))
            .is_some_and(|rest| rest.strip_suffix(".tar").is_some_and(|stem| !stem.is_empty()))
}
