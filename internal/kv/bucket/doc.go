// Package bucket is the kv engine of a machine that owns nothing: all state is in
// an object store. The log of batches is numbered journal objects; tables go there
// when a checkpoint is made, and are read from there page by page, so that a
// machine with an empty disk serves at once. FORMAT.md describes the objects.
//
// It owns: the objects below the store it is given, the local directory that
// caches them, the kv.Store over both, who may write. It must not know
// transactions, what keys mean, providers, or passwords.
//
// # Who may write
//
// Authority is a conditional write that succeeded, never time:
//
//	B1 A writer's epoch begins with a head of that epoch, which replaced the one
//	   before it under a condition. Epochs only grow.
//	B2 A manifest counts when a head names it. Heads replace one another under
//	   conditions, so manifests are a chain: each takes tables over only from the
//	   one before it, and what one does not need, none after it needs.
//	B3 A batch is durable when its journal object was made where there was none.
//	   A writer uses a number only after the one before it is known to be his.
//	B4 A writer's first journal object begins his epoch, and is never removed: an
//	   earlier writer, however long he slept, meets it at the first number he
//	   tries, and is fenced for good.
//	B5 A manifest holds only batches that are in the journal. So even one of a
//	   writer that has been fenced meanwhile is a right prefix of the history.
//	B6 Who takes over looks at the head once more after he has claimed the
//	   journal's end: if it is another's, what looked like the end was a number
//	   from which an object had been removed.
//
// What a fenced writer put into the bucket before, tables or a drive's segments,
// is never named by anything that counts: it is garbage.
//
// A request that was given up may arrive at any time. It finds an object of its name,
// or makes what nobody reads: a name of a table or manifest was this one's only, and
// where no journal object of a number is left, the manifest's journal begins later.
// The next writer's first checkpoint makes garbage of that. Only what begins an epoch
// stays there, too.
//
// # Failure
//
// A store that does not answer fails nothing: batches are queued, up to a bound
// from which Update waits; Sync waits; what is cached is read. What is not cached
// is refused after a time. All goes on when the store answers. A batch whose
// object may or may not have arrived is sent again, with the same bytes, until it
// is known. A local disk that takes no tables makes writers wait for room in memory,
// or be refused, for as long. Only another writer, and objects that do not verify,
// end an engine.
//
// # Goroutines and locks
//
// A store has one goroutine that makes checkpoints, one that brings full objects
// to the journal, and one that looks whether it was fenced; a Follower one that
// polls; a lease one that renews it. Reading the journal at the start uses
// replayAhead more. Close waits for all.
//
//	store.applying     one batch on its way through the tables into the queue
//	  queue.mu
//	Follower.look      one look for new batches at a time
//	chain.mu           one checkpoint at a time
//	  journal.mu       one journal object at a time; held while it is written
//	    queue.mu, journal.count
//	  tier.mu          which tables there are
//	    table.mu       where a table's bytes are; held while local ones are read
//	      cache.mu     what is cached; never held during I/O
//	    cacheFile.mu   held during local I/O
package bucket
