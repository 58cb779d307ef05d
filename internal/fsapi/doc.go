// Package fsapi holds the nouns of Strake as types, and the error kinds. It
// imports only the standard library and reads as the specification: every
// other package speaks in these words.
//
// It owns: identifiers (Ino, VolumeID, ChunkID, SegmentID, Fence), Attr,
// Dirent, Extent, Location, Cred, the error kinds.
//
// It must not know: how any of them is stored, sent or computed.
//
// # Promises
//
// The promises that code and tests name:
//
//   - D1: a durable extent never points at bytes that are not durable.
//   - D2: fsync, COMMIT, FLUSH/FUA, a 200 on PUT return only when the class's
//     promise holds for everything they cover. Namespace operations are
//     ordered: after a crash there is a prefix of them. rename over an
//     existing file flushes the source first.
//   - D3: segments never change; ids are never reused; nothing is overwritten
//     in place anywhere.
//   - D4: deletion fails closed: a segment is removed only after a delay and
//     after proving from its own directory that nothing live, no snapshot and
//     no reader needs it; any doubt keeps it.
//   - D5: a copy is evicted from a hotter tier only when a colder pinned copy
//     has been read back and verified.
//   - D6: fsync never lies after a loss: if unsynced writes of a handle were
//     lost, its next fsync fails once.
//   - D7: a writer with an old fence token is refused by kv, by drives and by
//     buckets, not merely asked to stop.
//   - D8: every byte read was verified (AEAD tag or checksum) before a caller
//     sees it; a bad copy is answered from another and repaired.
package fsapi
