//! Whether a source file is an archive, as far as its name tells.

use percent_encoding::percent_decode_str;
use url::Url;

/// The endings of archives.
const ARCHIVES: &[&str] = &[
    ".crate",
    ".gem",
    ".jar",
    ".love",
    ".zip",
    ".tar",
    ".tar.gz",
    ".tgz",
    ".tbz",
    ".tbz2",
    ".bz2",
    ".bzip2",
    ".tar.lzma",
    ".tar.lz",
    ".txz",
    ".tar.xz",
    ".tar.z",
    ".7z",
    ".oxt",
    ".pak",
    ".war",
    ".whl",
    ".vsix",
    ".vsixpackage",
    ".tar.zst",
];

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    Archive,
    /// A single file.
    File,
    /// Its name does not tell.
    Unknown,
}

/// What a file's name, in its URL, says that it is: any segment of the path and any value of the query.
pub(super) fn nature_of(url: &Url) -> Nature {
    let segments: Vec<String> = url
        .path_segments()
        .into_iter()
        .flatten()
        .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
        .collect();
    // Registries of Rust give their archives under this.
    if let [.., api, _, crates, _, _, download] = &segments[..]
        && (api.as_str(), crates.as_str(), download.as_str()) == ("api", "crates", "download")
    {
        return Nature::Archive;
    }
    let values: Vec<String> = url.query_pairs().map(|(_, value)| value.into_owned()).collect();
    let last = segments.last().map_or("", String::as_str);
    of(segments.iter().chain(&values).map(String::as_str), last)
}

/// What a file's name says that it is.
pub(super) fn nature_of_name(name: &str) -> Nature {
    of([name], name)
}

fn of<'a>(names: impl IntoIterator<Item = &'a str>, last: &str) -> Nature {
    let mut any = false;
    for name in names {
        if is_archive_name(name) {
            return Nature::Archive;
        }
        any |= has_ending(name);
    }
    // What looks like an ending may be the end of a version.
    if any && !begins_as_version(last) { Nature::File } else { Nature::Unknown }
}

/// Whether a name ends as archives do.
pub(super) fn is_archive_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ARCHIVES.iter().any(|ending| name.ends_with(ending))
}

fn has_ending(name: &str) -> bool {
    let name = name.trim_start_matches('.');
    name.rsplit_once('.').is_some_and(|(_, ending)| !ending.is_empty())
}

/// `v1.2…`, `10.0…`.
fn begins_as_version(name: &str) -> bool {
    let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let name = name.trim_start_matches(['v', 'V']);
    let whole = digits(name);
    let rest = name.get(whole..).and_then(|rest| rest.strip_prefix('.'));
    whole > 0 && rest.is_some_and(|rest| digits(rest) > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_a_file_is() {
        for (url, nature) in [
            ("https://h/a-1.0.tar.gz", Nature::Archive),
            ("https://h/a-1.0.TGZ", Nature::Archive),
            ("https://h/a.tar.Z", Nature::Archive),
            ("https://h/a.zip/download", Nature::Archive),
            ("https://h/get?file=a.zip&x=1", Nature::Archive),
            ("https://h/a%2Ezip", Nature::Archive),
            ("https://h/api/v1/crates/a/1.0/download", Nature::Archive),
            ("https://h/x.vsix?y", Nature::Archive),
            ("https://h/a.c", Nature::File),
            ("https://h/a/repo.git", Nature::File),
            ("https://h/get?file=a.patch", Nature::File),
            ("https://h/a", Nature::Unknown),
            ("https://h/", Nature::Unknown),
            ("https://h/.hidden", Nature::Unknown),
            ("https://h/tar.gz/v1.0", Nature::Unknown),
            ("https://h/tar.gz/0.4.2", Nature::Unknown),
            ("https://h/a.d/1.2-rc", Nature::Unknown),
            ("https://h/a.", Nature::Unknown),
        ] {
            assert_eq!(nature_of(&Url::parse(url).unwrap()), nature, "{url}");
        }
        assert_eq!(nature_of_name("a-0.4.2.tar.gz"), Nature::Archive);
        assert_eq!(nature_of_name("a.txt"), Nature::File);
        assert_eq!(nature_of_name("a"), Nature::Unknown);
    }
}
