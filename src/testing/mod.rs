//! Conformance suites, laws, a virtual clock and a loopback server.
