// Package transfer copies trees between a local file system and a Strake
// server: content with its holes, modes, owners, times, extended attributes,
// ACLs, symlinks, special files, hard links.
//
// It owns: what makes two files the same, in which order a tree is made, what
// is remembered of a copy that was cut short. It must not know how its progress
// is shown, nor how the server stores anything.
//
// # Order
//
// A directory is made before what is in it and gets its attributes when all
// else is done, so that its times and default ACL are those of the source.
// Small files travel many at a time; large ones are written beside their name
// and take it when they are whole. Further names of a file are linked when its
// first one is there.
//
// # Memory
//
// It grows with the number of directories that are changed, of files with
// several names, and by 16 bytes with each file in a journal.
//
// # Goroutines
//
// Run starts at most Options.Workers goroutines at a time, which walk and copy,
// and waits for all. A goroutine that finds no place for another does that
// one's work itself. Locks (batcher.mu, run.mu, Journal.mu) are leaves; none is
// held while bytes are read or written.
package transfer
