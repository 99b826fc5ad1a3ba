//! Why a virtual processor cannot go on, in words that name the instruction.
