//! Indexes and feeds in XML.
#![no_main]

#[allow(dead_code)]
mod common;

libfuzzer_sys::fuzz_target!(|input: &[u8]| common::read(&common::XML, input));
