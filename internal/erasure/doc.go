// Package erasure turns the bytes of a segment into k data and m parity shards
// (Reed-Solomon over GF(2^8)) and back. Any k of the k+m shards are enough.
// FORMAT.md specifies the bytes.
//
// It owns: the layout's arithmetic, the stored form of a shard, encoding,
// reading (with reconstruction where a block is missing or rotten), rebuilding
// and verifying shards. It must not know drives, frames, chunks or keys: bytes
// come and go through io.ReaderAt, ReadFunc and io.Writer.
//
// Data shards are contiguous ranges of the segment, so that a range of it is
// read from one drive, seldom two, without decoding. Every block has a checksum
// that binds it to its segment, shard and place; every shard ends in the
// checksums of all blocks of all shards, so that a reconstructed block is
// verified before anybody sees it (D8), whatever is missing. The idea is that of
// Hendricks, Ganger, Reiter: "Verifying distributed erasure-coded data", PODC
// 2007 (cross-checksums).
//
// Memory is bounded by Config.Memory for each call that runs, whatever the
// segment's size; Writer alone needs m shards' worth.
//
// # Goroutines
//
// A call reads shards concurrently, computes on Config.Workers goroutines, and
// writes shards concurrently, each from one goroutine at a time. It waits for all
// of them before it returns, also after an error. The locks are Coder.mu,
// gather.mu and strip.mu; none is held while another is taken, nor across I/O.
package erasure
