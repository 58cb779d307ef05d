// Package daemon is the composition root: the only package that knows every
// layer. It builds them in order from a configuration, starts and stops them,
// and carries out administration.
//
// It owns: the layout of a data directory, the order of start and stop, the
// tables of volumes, drives, mounts and tokens of one process. It is imported
// by cmd only. It must hold no rule that belongs to a layer.
//
// # Data directory
//
//	lock           one process at a time
//	password       the generated password, mode 0600; absent where one was given
//	keyring        data keys, wrapped by a password, a key file, services
//	meta/          the metadata engine
//	bucket/        instead of it, what is cached of the bucket that has everything
//	drives/main/   the first drive
//	run/           the administration socket, mode 0700
//	token          the first bearer token, mode 0600
//
// # Order
//
// Start: lock, keyring, engine, meta, drives, blob, upkeep, volumes (vfs),
// checkpoints, doors. Stop is the reverse; doors first take no more requests,
// then volumes write back, then checkpoints are brought up to date.
//
// # Goroutines
//
// A server that only follows another (following) has one that gives the caches each
// batch that comes, in the place of upkeep, checkpoints and backups.
//
// Node.background starts every long-running loop (upkeep, checkpoints) under
// one context and waits for all of them in Close. Doors own theirs.
package daemon
