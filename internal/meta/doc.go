// Package meta keeps inodes, dentries, extents, chunk and segment records,
// volumes, policies, quotas, trash and usage as transactions on kv.
//
// It owns: the key layout (KEYS.md beside this file) and the invariants
// between records: link counts, usage, references. It must not know bytes of
// chunks, permissions, doors or nodes.
package meta
