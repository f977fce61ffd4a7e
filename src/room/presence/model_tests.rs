//! Whatever happens, every client's list ends as the true one.
