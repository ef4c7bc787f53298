//! Lines of JSON: read one by one, told by their place where they are bad.

use std::io::{self, BufRead, BufReader};

use serde::de::DeserializeOwned;

use crate::failure::{Failure, one_line};

/// What is read of them goes to the store in batches of so many.
pub(crate) const BATCH: usize = 1000;

/// The lines of a file, or of standard input.
pub(crate) struct Lines {
    input: Box<dyn BufRead>,
    text: Vec<u8>,
    number: u64,
}

impl Lines {
    pub(crate) fn new(input: impl BufRead + 'static) -> Self {
        Self { input: Box::new(input), text: Vec::new(), number: 0 }
    }

    pub(crate) fn of_standard_input() -> Self {
        Self::new(BufReader::new(io::stdin()))
    }

    /// The next line that is not blank, with its number, the first being 1; none at the end.
    pub(crate) fn read(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        loop {
            self.text.clear();
            if self.input.read_until(b'\n', &mut self.text)? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if !self.text.trim_ascii().is_empty() {
                return Ok(Some((self.number, &self.text)));
            }
        }
    }

    /// How many lines were read so far, blank ones too.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

/// What a line says, or what is wrong with it and where.
pub(crate) fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    let mut from = serde_json::Deserializer::from_slice(line);
    let value = serde_path_to_error::deserialize(&mut from).map_err(|e| {
        let place = e.path().to_string();
        let problem = one_line(&e.inner().to_string());
        if place == "." { problem } else { format!("at {place}: {problem}") }
    })?;
    from.end().map(|()| value).map_err(|_| "more than one JSON object".to_owned())
}

/// Standard input failed.
pub(crate) fn unread(e: &io::Error) -> Failure {
    Failure::work(format!("standard input cannot be read: {e}"))
}
