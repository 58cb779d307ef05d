//go:build !linux

package osfs

import "errors"

// DirectIO is the flag of OpenFile that bypasses the page cache. This host
// knows none.
const DirectIO = 0

// SyncData asks for the next stronger promise.
func (f *osFile) SyncData() error { return f.Sync() }

func syncRange(int, int64, int64) error { return nil }

func preallocate(int, int64, int64) error { return nil }

func dropCache(int, int64, int64) error { return nil }

func statFS(string) (Capacity, error) { return Capacity{}, errors.ErrUnsupported }
