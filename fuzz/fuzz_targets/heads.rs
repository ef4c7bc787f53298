//! Heads of answers: links, limits, retries, bot walls, dates.
#![no_main]

use lamplighter::testing::mutate::{HEADS, read_head};

#[allow(dead_code)]
mod common;

libfuzzer_sys::fuzz_target!(
    init: common::seeds(HEADS.iter().map(|head| head.to_vec())),
    |input: &[u8]| common::count(read_head(input))
);
