// Package meta keeps inodes, dentries, extents, chunk and segment records,
// volumes, policies, quotas, trash and usage as transactions on kv.
//
// It owns: the key layout (KEYS.md beside this file) and the invariants
// between records: link counts, usage, references; Check verifies and Repair
// mends them. It must not know bytes of chunks, permissions, doors or nodes.
//
// A Store is the only writer of its engine. It starts no goroutine. Lock
// order, outermost first:
//
//	numbers.refill     reserving numbers; held over a durable commit
//	volumeState.gate   shared by every Update of a volume, alone for one that
//	                   changes the volume's record; held over a commit
//	  kv's locks
//	  Store.mu, chains.mu, policies.mu, numbers.mu   leaves
package meta
