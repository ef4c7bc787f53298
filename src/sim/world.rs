//! A world: when its origins change, what listers see of that, and the reader of frozen ones.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};

use serde::Deserialize;

/// Seconds in a day.
pub(crate) const DAY: f64 = 86_400.0;

/// The longest line of a world that is read: an origin with some million changes.
const LONGEST_LINE: u64 = 64 << 20;

/// What a kind of lister sees.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct ListerKind {
    /// Days between two listings; zero for a lister that tells no dates, so that it is of no use
    /// after the first time.
    pub period: f64,
    /// The share of changes that it sees.
    pub recall: f64,
    /// Changes it sees that are none, as a share of the changes.
    pub false_share: f64,
    /// Days by which what it sees is late.
    pub lag: f64,
}

impl ListerKind {
    /// A kind of lister.
    #[must_use]
    pub fn new(period: f64, recall: f64, false_share: f64, lag: f64) -> Self {
        Self { period, recall, false_share, lag }
    }
}

/// One origin of a world.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct WorldOrigin {
    /// Its lister's kind, as an index into [`World::kinds`].
    pub kind: u8,
    /// Where in its lister's period it is listed: in [0, 1).
    pub phase: f64,
    /// When it appears, in seconds; before zero: it always was there.
    pub first_seen: i32,
    /// Whether every visit of it finds nothing there.
    pub dead: bool,
    /// How far back in the round before the start its last visit was: in [0, 1).
    pub spread: f64,
}

/// A population of origins, their changes and what listers see of them. Times are seconds from the
/// start; those before it are history.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct World {
    /// How many days are simulated.
    pub days: f64,
    /// Days between two rounds of listings and visits.
    pub tick: f64,
    /// Days before measuring begins.
    pub measure_from: f64,
    /// Mean number of changes a day: what a budget of one is.
    pub volume_per_day: f64,
    /// The kinds of listers.
    pub kinds: Vec<ListerKind>,
    pub(crate) origins: Vec<WorldOrigin>,
    changes: Series,
    signals: Series,
    /// True rates, where they are known, by origin.
    pub(crate) rates: Option<Vec<f64>>,
}

/// Times by origin, in one allocation.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Series {
    ends: Vec<usize>,
    times: Vec<i32>,
}

impl Series {
    pub(crate) fn push(&mut self, times: impl IntoIterator<Item = i32>) {
        self.times.extend(times);
        self.ends.push(self.times.len());
    }

    pub(crate) fn of(&self, origin: usize) -> &[i32] {
        let from = origin.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied());
        let to = self.ends.get(origin).copied();
        from.zip(to).and_then(|(from, to)| self.times.get(from..to)).unwrap_or_default()
    }
}

/// Why a world could not be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of the world: {what}")]
#[non_exhaustive]
pub struct WorldError {
    /// Which line; the header is the first.
    pub line: u64,
    /// What is wrong.
    pub what: String,
    /// The error behind it.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl WorldError {
    fn new(line: u64, what: impl Into<String>) -> Self {
        Self { line, what: what.into(), source: None }
    }

    fn with(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }
}

#[derive(Deserialize)]
struct Header {
    n: usize,
    #[serde(rename = "T_days")]
    days: f64,
    tick_days: f64,
    measure_from: f64,
    volume_per_day: f64,
    kinds: BTreeMap<String, [f64; 4]>,
}

#[derive(Deserialize)]
struct Line {
    k: u8,
    ph: f64,
    fs: i32,
    dead: u8,
    u: f64,
    ev: Vec<i32>,
    sg: Vec<i32>,
}

impl World {
    /// A world without origins.
    #[must_use]
    pub fn new(days: f64, tick: f64, measure_from: f64, kinds: Vec<ListerKind>) -> Self {
        Self {
            days,
            tick,
            measure_from,
            volume_per_day: 0.0,
            kinds,
            origins: Vec::new(),
            changes: Series::default(),
            signals: Series::default(),
            rates: None,
        }
    }

    /// Reads a frozen world: a header and then one origin a line, as JSON, gzipped or not.
    ///
    /// ```
    /// let text = r#"{"n":1,"T_days":2,"tick_days":0.25,"measure_from":0,"volume_per_day":1,"kinds":{"0":[0,0,0,0]}}
    /// {"k":0,"ph":0.5,"fs":-86400,"dead":0,"u":0.5,"ev":[-5,100],"sg":[]}"#;
    /// let world = lamplighter::sim::World::read(text.as_bytes())?;
    /// assert_eq!(world.len(), 1);
    /// # Ok::<(), lamplighter::sim::WorldError>(())
    /// ```
    ///
    /// # Errors
    /// [`WorldError`], with the line, where the text cannot be read, is no world, or has fewer
    /// origins than its header says.
    pub fn read(from: impl Read) -> Result<Self, WorldError> {
        let mut from = BufReader::with_capacity(1 << 16, from);
        // Two bytes tell; they may come one by one through a pipe.
        let mut head = [0; 2];
        let mut known = 0;
        while let Some(rest) = head.get_mut(known..).filter(|rest| !rest.is_empty()) {
            match from.read(rest) {
                Ok(0) => break,
                Ok(n) => known += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(WorldError::new(1, "cannot be read").with(e)),
            }
        }
        let head = io::Cursor::new(head.get(..known).unwrap_or_default().to_vec());
        if head.get_ref().as_slice() == [0x1f, 0x8b] {
            let plain = flate2::read::MultiGzDecoder::new(head.chain(from));
            return Self::read_plain(BufReader::with_capacity(1 << 16, plain));
        }
        Self::read_plain(head.chain(from))
    }

    fn read_plain(mut from: impl BufRead) -> Result<Self, WorldError> {
        let mut text = Vec::new();
        let mut number = 0;
        let mut next = |text: &mut Vec<u8>| -> Result<Option<u64>, WorldError> {
            loop {
                text.clear();
                number += 1;
                let read = from.by_ref().take(LONGEST_LINE).read_until(b'\n', text);
                match read {
                    Err(e) => return Err(WorldError::new(number, "cannot be read").with(e)),
                    Ok(0) => return Ok(None),
                    Ok(n) if n as u64 == LONGEST_LINE => {
                        return Err(WorldError::new(number, "is too long"));
                    }
                    Ok(_) if text.trim_ascii().is_empty() => {}
                    Ok(_) => return Ok(Some(number)),
                }
            }
        };
        let Some(line) = next(&mut text)? else { return Err(WorldError::new(1, "no header: it is empty")) };
        let header: Header =
            serde_json::from_slice(&text).map_err(|e| WorldError::new(line, "is no header").with(e))?;
        let mut world = Self::of_header(&header).map_err(|what| WorldError::new(line, what))?;
        while let Some(line) = next(&mut text)? {
            let origin: Line =
                serde_json::from_slice(&text).map_err(|e| WorldError::new(line, "is no origin").with(e))?;
            let origin_of = WorldOrigin {
                kind: origin.k,
                phase: origin.ph,
                first_seen: origin.fs,
                dead: origin.dead != 0,
                spread: origin.u,
            };
            world.add(origin_of, &origin.ev, &origin.sg).map_err(|what| WorldError::new(line, what))?;
        }
        if world.len() != header.n {
            let what = format!("the header says {} origins, there are {}", header.n, world.len());
            return Err(WorldError::new(1, what));
        }
        Ok(world)
    }

    fn of_header(header: &Header) -> Result<Self, String> {
        let within = |what: &str, n: f64, low: f64, high: f64| {
            if n.is_finite() && (low..=high).contains(&n) {
                Ok(n)
            } else {
                Err(format!("{what} is {n}, not within {low} to {high}"))
            }
        };
        // Times are seconds in 32 bits: up to 68 years.
        let days = within("T_days", header.days, 1e-3, 20_000.0)?;
        let mut kinds = Vec::new();
        for n in 0..header.kinds.len() {
            let Some([period, recall, false_share, lag]) = header.kinds.get(&n.to_string()) else {
                return Err(format!("lister kind {n} is missing"));
            };
            within("a listing period", *period, 0.0, 20_000.0)?;
            within("a lister's lag", *lag, 0.0, 20_000.0)?;
            kinds.push(ListerKind::new(*period, *recall, *false_share, *lag));
        }
        let mut world = Self::new(
            days,
            within("tick_days", header.tick_days, 1e-3, 1000.0)?,
            within("measure_from", header.measure_from, 0.0, days)?,
            kinds,
        );
        world.volume_per_day = within("volume_per_day", header.volume_per_day, 0.0, 1e12)?;
        Ok(world)
    }

    /// Adds an origin, its changes and the changes that its lister sees, both in order.
    ///
    /// # Errors
    /// In words, where its lister's kind does not exist, a share is none, or times are not in
    /// order.
    pub fn add(&mut self, origin: WorldOrigin, changes: &[i32], signals: &[i32]) -> Result<(), String> {
        if usize::from(origin.kind) >= self.kinds.len() {
            return Err(format!("there is no lister kind {}", origin.kind));
        }
        for (name, share) in [("ph", origin.phase), ("u", origin.spread)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("{name} is {share}, not within 0 to 1"));
            }
        }
        if !changes.is_sorted() || !signals.is_sorted() {
            return Err("its times are not in order".to_owned());
        }
        self.origins.push(origin);
        self.changes.push(changes.iter().copied());
        self.signals.push(signals.iter().copied());
        Ok(())
    }

    /// How many origins there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.origins.len()
    }

    /// Whether there is no origin.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    /// The origins.
    #[must_use]
    pub fn origins(&self) -> &[WorldOrigin] {
        &self.origins
    }

    /// When an origin changes.
    #[must_use]
    pub fn changes(&self, origin: usize) -> &[i32] {
        self.changes.of(origin)
    }

    /// The changes that an origin's lister sees, true ones and false ones.
    #[must_use]
    pub fn signals(&self, origin: usize) -> &[i32] {
        self.signals.of(origin)
    }

    /// The end, in seconds.
    pub(crate) fn end(&self) -> f64 {
        self.days * DAY
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const HEADER: &str = r#"{"n":2,"T_days":3,"tick_days":0.25,"measure_from":1,"volume_per_day":1.5,"kinds":{"0":[0,0,0,0],"1":[7,0.97,0.05,0.5]}}"#;
    const FIRST: &str = r#"{"k":0,"ph":0.5,"fs":-86400,"dead":0,"u":0.5,"ev":[-5,100],"sg":[]}"#;
    const SECOND: &str = r#"{"k":1,"ph":0.25,"fs":50,"dead":1,"u":0.125,"ev":[7],"sg":[7,9]}"#;

    /// A reader that gives a byte at a time, as a slow pipe does.
    struct Drip<'a>(&'a [u8]);
    impl Read for Drip<'_> {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            let n = self.0.len().min(room.len()).min(1);
            room[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    #[test]
    fn a_world_reads_the_same_plain_gzipped_and_drop_by_drop() {
        let text = format!("{HEADER}\n{FIRST}\n\n{SECOND}\n");
        let world = World::read(text.as_bytes()).unwrap();
        assert_eq!((world.len(), world.volume_per_day, world.kinds[1].period), (2, 1.5, 7.0));
        assert_eq!((world.changes(0), world.signals(0)), (&[-5, 100][..], &[][..]));
        assert_eq!((world.changes(1), world.signals(1)), (&[7][..], &[7, 9][..]));
        assert!(world.origins()[1].dead && world.origins()[1].first_seen == 50);
        assert_eq!(World::read(Drip(text.as_bytes())).unwrap(), world);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(text.as_bytes()).unwrap();
        assert_eq!(World::read(Drip(&gz.finish().unwrap())).unwrap(), world);
    }

    #[test]
    fn what_is_no_world_is_refused_with_its_line() {
        let refused = |text: String, line: u64, what: &str| {
            let e = World::read(text.as_bytes()).unwrap_err();
            assert!(e.line == line && e.to_string().contains(what), "{e}");
        };
        refused(String::new(), 1, "empty");
        refused("{}".to_owned(), 1, "no header");
        refused(HEADER.replace("0.25", "0"), 1, "tick_days");
        refused(HEADER.replace("\"1\":", "\"2\":"), 1, "kind 1 is missing");
        refused(format!("{HEADER}\n{FIRST}\n"), 1, "says 2 origins, there are 1");
        refused(format!("{HEADER}\n{FIRST}\n{{"), 3, "no origin");
        refused(format!("{HEADER}\n{}", SECOND.replace("\"k\":1", "\"k\":2")), 2, "no lister kind 2");
        refused(format!("{HEADER}\n{}", SECOND.replace("[7,9]", "[9,7]")), 2, "not in order");
        refused(format!("{HEADER}\n{}", SECOND.replace("0.25", "1.25")), 2, "ph is 1.25");
        let cut = {
            let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gz.write_all(format!("{HEADER}\n{FIRST}\n{SECOND}\n").as_bytes()).unwrap();
            let mut whole = gz.finish().unwrap();
            whole.truncate(whole.len() / 2);
            whole
        };
        assert!(World::read(&cut[..]).unwrap_err().to_string().contains("cannot be read"));
    }
}
