// Package durability estimates how likely a set of copies is to lose data within
// a year, from figures of drives, buckets and repair. docs/durability-model.md
// has the formulae, their assumptions and their limits.
//
// It owns: the Markov chains and their solution, the model of a copy on drives
// or in a bucket, and how copies combine. It must not know where the figures
// come from, nor who prints the result. It is pure: no I/O, no clock, no
// randomness; every function may be called concurrently.
//
// Times are in years of 365.25 days, rates per year, sizes in bytes, unless a
// name says otherwise.
package durability
