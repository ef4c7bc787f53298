//! Data frames in files of R (`.rds`), read as a stream: of a file only the wanted columns are in memory.
//!
//! The format is R's serialisation in its portable (XDR) form, versions 2 and 3: items with a word of flags, their
//! attributes in pairlists behind them. So the names of columns, and those of rows, come after the columns, and
//! a file is read twice: once to learn where its columns are, once for what they hold.

use std::io::{self, BufReader, ErrorKind, Read};

use super::compress::{Unpacked, unpacking};
use super::{ListerError, ListerErrorKind};
use crate::transport::Body;

/// Items in one another: real files have five.
const DEEPEST: usize = 50;

/// The longest text: paths are some hundred bytes.
const LONGEST: usize = 1 << 20;

/// Symbols and environments that may be referred to: real files have ten.
const REFERENCES: usize = 10_000;

/// Columns of a frame.
const COLUMNS: usize = 1_000;

/// Numbers that are kept in memory.
const NUMBERS: usize = 16 << 20;

/// Hands each row of a frame to `each`: its name, and of these columns its numbers.
///
/// # Errors
/// [`ListerErrorKind::Parse`] naming `what` and the place, where it is no such frame or breaks off;
/// [`ListerErrorKind::Io`] when a spooled body cannot be read; those of `each`.
pub(crate) fn each_row<const N: usize>(
    what: &str,
    body: &Body,
    columns: [&str; N],
    mut each: impl FnMut(&str, [Option<f64>; N]) -> Result<(), ListerError>,
) -> Result<(), ListerError> {
    let open = || Unpacked::new(body).map(|u| Rds::new(BufReader::with_capacity(64 << 10, u)));
    let failed = |e: Failed, at: u64| match e {
        Failed::Format(problem) => ListerError::parse(format!("{what}: {problem}, after {at} bytes")),
        Failed::Io(e) => unpacking(what, e),
        Failed::Stopped(e) => e,
    };
    let broken = |e| ListerError::new(ListerErrorKind::Io, what.to_owned()).with_source(e);

    let mut first = open().map_err(broken)?;
    let mut layout = Layout::default();
    first.document(&mut layout).map_err(|e| failed(e, first.at))?;
    let missing = |column: &str| ListerError::parse(format!("{what}: the data frame has no column {column}"));
    let mut places = [0; N];
    for (place, column) in places.iter_mut().zip(columns) {
        *place = layout.names.iter().position(|name| name == column).ok_or_else(|| missing(column))?;
    }
    if !layout.named {
        return Err(ListerError::parse(format!("{what}: the rows of the data frame have no names")));
    }
    let mut second = open().map_err(broken)?;
    let mut rows =
        Rows { places, kept: std::array::from_fn(|_| Vec::new()), count: layout.rows, each: &mut each };
    second.document(&mut rows).map_err(|e| failed(e, second.at))
}

/// Why a file cannot be read.
enum Failed {
    Format(String),
    Io(io::Error),
    Stopped(ListerError),
}

type Result<T, E = Failed> = std::result::Result<T, E>;

fn wrong<T>(problem: impl Into<String>) -> Result<T> {
    Err(Failed::Format(problem.into()))
}

/// What is done with the pieces of a frame.
trait Frame {
    /// A column, by its number.
    fn column<R: Read>(&mut self, from: &mut Rds<R>, number: usize, flags: Flags) -> Result<()>;
    /// An attribute of the frame.
    fn attribute<R: Read>(&mut self, from: &mut Rds<R>, name: &str, flags: Flags) -> Result<()>;
}

/// Where a frame has its columns, and whether its rows have names.
#[derive(Default)]
struct Layout {
    names: Vec<String>,
    named: bool,
    rows: usize,
}

impl Frame for Layout {
    fn column<R: Read>(&mut self, from: &mut Rds<R>, _: usize, flags: Flags) -> Result<()> {
        from.item(flags)
    }

    fn attribute<R: Read>(&mut self, from: &mut Rds<R>, name: &str, flags: Flags) -> Result<()> {
        match name {
            "names" => from.texts(flags, &mut |name| {
                if self.names.len() >= COLUMNS {
                    return wrong("a data frame with too many columns");
                }
                self.names.push(name.unwrap_or_default().to_owned());
                Ok(())
            }),
            "row.names" if flags.is_texts() => {
                self.named = true;
                from.texts(flags, &mut |_| {
                    self.rows += 1;
                    Ok(())
                })
            }
            _ => from.item(flags),
        }
    }
}

/// What the wanted columns hold, and where it goes.
struct Rows<'a, const N: usize, F> {
    places: [usize; N],
    kept: [Vec<f64>; N],
    count: usize,
    each: &'a mut F,
}

impl<const N: usize, F> Frame for Rows<'_, N, F>
where
    F: FnMut(&str, [Option<f64>; N]) -> std::result::Result<(), ListerError>,
{
    fn column<R: Read>(&mut self, from: &mut Rds<R>, number: usize, flags: Flags) -> Result<()> {
        let Some(slot) = self.places.iter().position(|place| *place == number) else {
            return from.item(flags);
        };
        let column = from.numbers(flags)?;
        if column.len() != self.count {
            let (rows, has) = (self.count, column.len());
            return wrong(format!("column {number} has {has} values for {rows} rows"));
        }
        if let Some(kept) = self.kept.get_mut(slot) {
            *kept = column;
        }
        Ok(())
    }

    fn attribute<R: Read>(&mut self, from: &mut Rds<R>, name: &str, flags: Flags) -> Result<()> {
        if name != "row.names" {
            return from.item(flags);
        }
        let mut row = 0;
        from.texts(flags, &mut |name| {
            let value = |column: &Vec<f64>| column.get(row).copied().filter(|v| v.is_finite());
            let values = std::array::from_fn(|n| self.kept.get(n).and_then(value));
            row += 1;
            (self.each)(name.unwrap_or_default(), values).map_err(Failed::Stopped)
        })
    }
}

/// What stands before an item.
#[derive(Clone, Copy)]
struct Flags(u32);

impl Flags {
    fn kind(self) -> u32 {
        self.0 & 0xff
    }

    fn has_attributes(self) -> bool {
        self.0 & 0x200 != 0
    }

    fn has_tag(self) -> bool {
        self.0 & 0x400 != 0
    }

    /// Whether it may be a vector of texts.
    fn is_texts(self) -> bool {
        matches!(self.kind(), TEXTS | ALTERNATIVE)
    }
}

const SYMBOL: u32 = 1;
const PAIRLIST: u32 = 2;
const ENVIRONMENT: u32 = 4;
const TEXT: u32 = 9;
const LOGICALS: u32 = 10;
const INTEGERS: u32 = 13;
const REALS: u32 = 14;
const COMPLEX: u32 = 15;
const TEXTS: u32 = 16;
const LIST: u32 = 19;
const EXPRESSIONS: u32 = 20;
const POINTER: u32 = 22;
const WEAK: u32 = 23;
const BYTES: u32 = 24;
const S4: u32 = 25;
/// A vector in another form than all its values.
const ALTERNATIVE: u32 = 238;
const PERSISTENT: u32 = 247;
const PACKAGE: u32 = 248;
const NAMESPACE: u32 = 249;
const NIL: u32 = 254;
const REFERENCE: u32 = 255;

/// Reads items one after another.
struct Rds<R> {
    from: R,
    at: u64,
    depth: usize,
    /// The names of what may be referred to; empty for what has none.
    references: Vec<String>,
    numbers: usize,
}

impl<R: Read> Rds<R> {
    fn new(from: R) -> Self {
        Self { from, at: 0, depth: 0, references: Vec::new(), numbers: 0 }
    }

    /// The whole file.
    fn document(&mut self, frame: &mut impl Frame) -> Result<()> {
        if &self.bytes::<2>()? != b"X\n" {
            return wrong("no file of R in its portable (XDR) form");
        }
        let version = self.word()?;
        self.bytes::<8>()?;
        match version {
            2 => {}
            // The encoding of texts that do not say theirs.
            3 => {
                let length = self.length()?;
                self.skip(length)?;
            }
            _ => return wrong(format!("a file of R of version {version}")),
        }
        let flags = self.flags()?;
        if flags.kind() != LIST {
            return wrong("no data frame");
        }
        let columns = self.length()?;
        if columns > COLUMNS as u64 {
            return wrong(format!("a data frame of {columns} columns"));
        }
        for number in 0..usize::try_from(columns).unwrap_or(usize::MAX) {
            let flags = self.flags()?;
            frame.column(self, number, flags)?;
        }
        if flags.has_attributes() {
            self.attributes(frame)?;
        }
        let mut more = [0];
        match self.from.read(&mut more) {
            Ok(0) => Ok(()),
            Ok(_) => wrong("more after the end of the data frame"),
            Err(e) => Err(Failed::Io(e)),
        }
    }

    /// The attributes of the frame, by their names.
    fn attributes(&mut self, frame: &mut impl Frame) -> Result<()> {
        loop {
            let flags = self.flags()?;
            match flags.kind() {
                0 | NIL => return Ok(()),
                PAIRLIST if flags.has_tag() => {}
                kind => return wrong(format!("an item of kind {kind} where attributes were expected")),
            }
            if flags.has_attributes() {
                self.next()?;
            }
            let tag = self.flags()?;
            let name = self.symbol(tag)?;
            let flags = self.flags()?;
            frame.attribute(self, &name, flags)?;
        }
    }

    /// A symbol, or a reference to one: its name.
    fn symbol(&mut self, flags: Flags) -> Result<String> {
        match flags.kind() {
            SYMBOL => {
                let text = self.flags()?;
                let name = self.text(text)?.unwrap_or_default();
                self.refer(name.clone())?;
                Ok(name)
            }
            REFERENCE => self.referred(flags),
            kind => wrong(format!("an item of kind {kind} where a symbol was expected")),
        }
    }

    fn refer(&mut self, name: String) -> Result<()> {
        if self.references.len() >= REFERENCES {
            return wrong("too many symbols");
        }
        self.references.push(name);
        Ok(())
    }

    fn referred(&mut self, flags: Flags) -> Result<String> {
        let packed = flags.0 >> 8;
        let number = if packed == 0 { self.word()? } else { packed };
        let index = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
        let name = index.and_then(|index| self.references.get(index)).cloned();
        name.map_or_else(|| wrong(format!("a reference to symbol {number}, which is not there")), Ok)
    }

    /// The next item, which nobody wants.
    fn next(&mut self) -> Result<()> {
        let flags = self.flags()?;
        self.item(flags)
    }

    /// Reads past an item.
    fn item(&mut self, flags: Flags) -> Result<()> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return wrong("items too deep in one another");
        }
        let read = self.contents(flags);
        self.depth -= 1;
        read
    }

    fn contents(&mut self, mut flags: Flags) -> Result<()> {
        loop {
            match flags.kind() {
                // Nothing, and what is everywhere: environments and namespaces of R's own.
                0 | 241 | 242 | 250..=NIL => return Ok(()),
                SYMBOL | REFERENCE => return self.symbol(flags).map(drop),
                // Closures, promises, calls and `...` are pairs, too.
                PAIRLIST | 3 | 5 | 6 | 17 => {
                    if flags.has_attributes() {
                        self.next()?;
                    }
                    if flags.has_tag() {
                        self.next()?;
                    }
                    self.next()?;
                    flags = self.flags()?;
                    continue;
                }
                ENVIRONMENT => {
                    self.refer(String::new())?;
                    self.word()?;
                    for _ in 0..4 {
                        self.next()?;
                    }
                    return Ok(());
                }
                PERSISTENT | PACKAGE | NAMESPACE => {
                    self.word()?;
                    for _ in 0..self.length()? {
                        self.next()?;
                    }
                    return self.refer(String::new());
                }
                POINTER => {
                    self.refer(String::new())?;
                    self.next()?;
                    self.next()?;
                }
                WEAK => self.refer(String::new())?,
                S4 => {}
                TEXT => {
                    self.text(flags)?;
                    return Ok(());
                }
                LOGICALS | INTEGERS => self.values(4)?,
                REALS => self.values(8)?,
                COMPLEX => self.values(16)?,
                BYTES | 7 | 8 => self.values(1)?,
                TEXTS | LIST | EXPRESSIONS => {
                    for _ in 0..self.length()? {
                        self.next()?;
                    }
                }
                ALTERNATIVE => {
                    for _ in 0..3 {
                        self.next()?;
                    }
                    return Ok(());
                }
                kind => return wrong(format!("an item of kind {kind}, which no data frame has")),
            }
            return if flags.has_attributes() { self.next() } else { Ok(()) };
        }
    }

    fn values(&mut self, size: u64) -> Result<()> {
        let length = self.length()?;
        self.skip(length.saturating_mul(size))
    }

    /// A vector of texts, text by text.
    fn texts(&mut self, flags: Flags, each: &mut dyn FnMut(Option<&str>) -> Result<()>) -> Result<()> {
        match flags.kind() {
            TEXTS => {
                for _ in 0..self.length()? {
                    let flags = self.flags()?;
                    let text = self.text(flags)?;
                    each(text.as_deref())?;
                }
                if flags.has_attributes() { self.next() } else { Ok(()) }
            }
            ALTERNATIVE => {
                match self.class()?.as_str() {
                    "wrap_string" => self.wrapped(|rds, flags| rds.texts(flags, each))?,
                    class => return wrong(format!("texts as {class}, which is not known")),
                }
                self.next()
            }
            kind => wrong(format!("an item of kind {kind} where texts were expected")),
        }
    }

    /// A vector of numbers.
    fn numbers(&mut self, flags: Flags) -> Result<Vec<f64>> {
        let mut found = Vec::new();
        match flags.kind() {
            kind @ (LOGICALS | INTEGERS | REALS) => {
                for _ in 0..self.length()? {
                    let number = if kind == REALS {
                        f64::from_be_bytes(self.bytes()?)
                    } else {
                        // The least one stands for a missing one.
                        let number = i32::from_be_bytes(self.bytes()?);
                        if number == i32::MIN { f64::NAN } else { f64::from(number) }
                    };
                    self.keep(&mut found, number)?;
                }
                if flags.has_attributes() {
                    self.next()?;
                }
            }
            ALTERNATIVE => {
                match self.class()?.as_str() {
                    "wrap_real" | "wrap_integer" | "wrap_logical" => self.wrapped(|rds, flags| {
                        found = rds.numbers(flags)?;
                        Ok(())
                    })?,
                    "compact_intseq" | "compact_realseq" => {
                        let flags = self.flags()?;
                        let [count, first, step] = self.numbers(flags)?[..] else {
                            return wrong("a sequence that is not three numbers");
                        };
                        let mut number = first;
                        for _ in 0..=NUMBERS {
                            #[allow(clippy::cast_precision_loss, reason = "there are few of them")]
                            if found.len() as f64 >= count {
                                break;
                            }
                            self.keep(&mut found, number)?;
                            number += step;
                        }
                    }
                    class => return wrong(format!("numbers as {class}, which is not known")),
                }
                self.next()?;
            }
            kind => return wrong(format!("an item of kind {kind} where numbers were expected")),
        }
        Ok(found)
    }

    fn keep(&mut self, found: &mut Vec<f64>, number: f64) -> Result<()> {
        self.numbers += 1;
        if self.numbers > NUMBERS {
            return wrong(format!("more than {NUMBERS} numbers"));
        }
        found.push(number);
        Ok(())
    }

    /// The class of a vector in another form: the first of a list of symbols.
    fn class(&mut self) -> Result<String> {
        let flags = self.flags()?;
        if flags.kind() != PAIRLIST || flags.has_attributes() || flags.has_tag() {
            return wrong("a vector in another form, without its class");
        }
        let first = self.flags()?;
        let class = self.symbol(first)?;
        self.next()?;
        Ok(class)
    }

    /// A vector that is wrapped with what is known of it: a pair, or a list of two.
    fn wrapped(&mut self, read: impl FnOnce(&mut Self, Flags) -> Result<()>) -> Result<()> {
        let flags = self.flags()?;
        match flags.kind() {
            PAIRLIST if !flags.has_attributes() && !flags.has_tag() => {}
            LIST if self.length()? == 2 => {}
            _ => return wrong("a wrapped vector without the vector"),
        }
        self.depth += 1;
        if self.depth > DEEPEST {
            return wrong("items too deep in one another");
        }
        let inner = self.flags()?;
        read(self, inner)?;
        self.depth -= 1;
        self.next()
    }

    /// A text; none where it is missing.
    fn text(&mut self, flags: Flags) -> Result<Option<String>> {
        match flags.kind() {
            TEXT => {}
            0 | NIL => return Ok(None),
            kind => return wrong(format!("an item of kind {kind} where a text was expected")),
        }
        let length = self.word()?;
        if length == u32::MAX {
            return Ok(None);
        }
        let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST);
        let Some(length) = length else { return wrong("a text that is too long") };
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        let is_latin = flags.0 >> 12 & 4 != 0;
        let text = if is_latin {
            bytes.iter().map(|b| char::from(*b)).collect()
        } else {
            String::from_utf8_lossy(&bytes).into_owned()
        };
        if flags.has_attributes() {
            self.next()?;
        }
        Ok(Some(text))
    }

    fn flags(&mut self) -> Result<Flags> {
        self.word().map(Flags)
    }

    fn word(&mut self) -> Result<u32> {
        self.bytes().map(u32::from_be_bytes)
    }

    /// How many values follow: -1 stands before a long number.
    fn length(&mut self) -> Result<u64> {
        match self.word()? {
            u32::MAX => self.bytes().map(u64::from_be_bytes),
            length if length > i32::MAX.unsigned_abs() => wrong("a vector of a negative length"),
            length => Ok(length.into()),
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        match self.from.read_exact(bytes) {
            Ok(()) => {
                self.at += bytes.len() as u64;
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => wrong("it ends too early"),
            Err(e) => Err(Failed::Io(e)),
        }
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        let skipped = io::copy(&mut (&mut self.from).take(bytes), &mut io::sink()).map_err(Failed::Io)?;
        self.at += skipped;
        if skipped < bytes { wrong("it ends too early") } else { Ok(()) }
    }
}
