//! Real servers, free ports and worker processes for the tests and the lab.
