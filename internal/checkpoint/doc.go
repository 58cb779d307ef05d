// Package checkpoint keeps an encrypted copy of the metadata on every drive: a
// checkpoint of all keys at one batch, and the batches since, in groups. A
// Shipper follows an engine and writes them; Restore reads them back. FORMAT.md
// describes the bytes for a second implementer.
//
// It owns: the blobs under meta/, their format, when a new checkpoint takes
// the place of an old one. It must not know what keys mean, beyond which of
// them are counters, nor segments, volumes or passwords.
//
// # Epochs
//
// Blobs belong to an epoch: one unbroken history of one engine. A Shipper goes
// on with the epoch it finds on the drives if the engine still has the last
// batch that is there, with the same stamp. Otherwise, which is so after a
// restore or when an engine lost its newest batches in a crash, it begins a new
// epoch, with a checkpoint; the blobs of the old one go when that has been
// read back.
//
// # Goroutines and locks
//
// Run is one goroutine, the caller's. It starts one more while a checkpoint is
// being written, and waits for it. Calls that write to several drives start one
// for each; once a drive is done they wait Patience for the others, whose calls
// are cancelled then. A drive that is behind is brought up by a goroutine of its
// own (catchUpJob), one at a time for each drive; its outcome is noted under
// busy. Close waits for all of them.
//
// # The past
//
// Checkpoints and groups that the log does not need any more stay for
// Options.Keep, so that RestoreAt can go back to any moment; a drive that was
// behind is given the log, not the past that it lacks.
//
//	Shipper.making   one checkpoint at a time
//	  Shipper.busy   the state of the log; held while groups are written
//	    Shipper.mu   what Status shows
package checkpoint
