//! stub
/// x
#[derive(Debug)]
pub struct FileStore;
