//! Heads of answers: links, limits, retries, bot walls, dates.
#![no_main]

#[allow(dead_code)]
mod common;

libfuzzer_sys::fuzz_target!(|input: &[u8]| common::count(lamplighter::testing::mutate::read_head(input)));
