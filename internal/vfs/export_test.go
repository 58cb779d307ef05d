package vfs

// Gathered is how many bytes were copied to lie side by side for blob.
func (fs *Local) Gathered() int64 { return fs.pages.moved.Load() }
