//! The tags of small, flat XML files: lists of feeds, and of a site's pages.

use super::ListerError;

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag<'a> {
    /// Its name without a namespace's prefix; behind a `/` where it closes an element.
    pub(crate) name: &'a str,
    attributes: &'a str,
}

impl Tag<'_> {
    /// The value of an attribute, unescaped.
    pub(crate) fn attribute(&self, name: &str) -> Option<String> {
        let mut rest = self.attributes;
        loop {
            let (before, after) = rest.split_once('=')?;
            let after = after.trim_start();
            let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
            let (value, further) = after.get(1..)?.split_once(quote)?;
            if before.trim() == name {
                return Some(unescape(value));
            }
            rest = further;
        }
    }
}

/// The tags of a text, in order. What is in comments, and declarations, are none.
///
/// # Errors
/// [`super::ListerErrorKind::Parse`] where it is not of this root, or ends before the root does.
pub(crate) fn tags<'a>(text: &'a str, root: &str) -> Result<impl Iterator<Item = Tag<'a>>, ListerError> {
    let mut all = scan(text);
    if !all.any(|tag| tag.name == root) {
        let head: String = text.chars().take(60).collect();
        return Err(ListerError::parse(format!("no <{root}> in what begins with {head:?}")));
    }
    let close = format!("</{root}>");
    if scan(text).last().is_none_or(|tag| tag.name.strip_prefix('/') != Some(root)) {
        return Err(ListerError::parse(format!("it is cut: no {close} after {} bytes", text.len())));
    }
    Ok(scan(text))
}

fn scan(text: &str) -> impl Iterator<Item = Tag<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let (_, tag) = rest.split_once('<')?;
            if let Some(comment) = tag.strip_prefix("!--") {
                rest = comment.split_once("-->")?.1;
                continue;
            }
            let (inside, after) = tag.split_once('>')?;
            rest = after;
            let inside = inside.trim_end_matches('/');
            let (name, attributes) = inside.split_once(char::is_whitespace).unwrap_or((inside, ""));
            if name.starts_with(['!', '?']) {
                continue;
            }
            // Of a name with a prefix, what is behind it; closing tags keep theirs.
            let name = if name.starts_with('/') { name } else { name.rsplit(':').next().unwrap_or(name) };
            return Some(Tag { name, attributes });
        }
    })
}

/// A text with its entities made characters; one that is unknown stays as it is.
fn unescape(text: &str) -> String {
    let mut pieces = text.split('&');
    let mut whole = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let known = piece.split_once(';').and_then(|(entity, rest)| Some((character(entity)?, rest)));
        if let Some((character, rest)) = known {
            whole.push(character);
            whole.push_str(rest);
        } else {
            whole.push('&');
            whole.push_str(piece);
        }
    }
    whole
}

fn character(entity: &str) -> Option<char> {
    match entity {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = entity.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_have_their_attributes_and_the_text_behind_them() {
        let text = "<?xml version=\"1.0\"?>\n<!-- <a> --><l xmlns:x=\"u\"><x:a b = 'c &amp; d' e=\"&#x41;&#66;&no;\"/> t &lt; u <b>v</b></l>\n";
        let all: Vec<Tag<'_>> = tags(text, "l").unwrap().collect();
        let names: Vec<&str> = all.iter().map(|t| t.name).collect();
        assert_eq!(names, ["l", "a", "b", "/b", "/l"]);
        assert_eq!(all[1].attribute("b").as_deref(), Some("c & d"));
        assert_eq!(all[1].attribute("e").as_deref(), Some("AB&no;"));
        assert_eq!(all[1].attribute("f"), None);
    }

    #[test]
    fn what_is_of_another_root_or_cut_is_an_error() {
        let error = |text| tags(text, "l").map(Iterator::count).unwrap_err().to_string();
        assert!(error("<html>down</html>").contains("no <l>"));
        assert!(error("").contains("no <l>"));
        assert!(error("<l><a>x</a>").contains("cut"));
        assert!(error("<l><a>x</a></l").contains("cut"));
        assert_eq!(tags("<l></l>", "l").unwrap().count(), 2);
    }
}
