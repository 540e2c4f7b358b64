//! testrun
