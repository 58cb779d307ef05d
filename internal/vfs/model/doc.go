// Package model is a volume in memory, written from POSIX.1-2017 and the Linux
// manual pages to be obviously right: one mutex, maps, lists of byte ranges.
// It is the oracle that histories compare the real file system with, and a
// stand-in that doors can be developed and tested against.
//
// It owns: nothing durable; a model ends with its process. It must not know
// meta, blob, or how the real implementation does anything.
//
// Locks: FS.mu is the only mutex. Nothing blocks while holding it; a waiter for
// a byte-range lock waits on a channel outside it.
package model
