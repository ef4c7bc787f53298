//! Small HTML tools for listers that read pages.
