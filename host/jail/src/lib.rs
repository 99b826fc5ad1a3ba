//! Takes rights away from the processes and threads that a guest might take over.
