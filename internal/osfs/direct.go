package osfs

import "unsafe"

// DirectBuffer makes a slice of n bytes, rounded up to DirectAlign, that lies
// in memory as DirectIO wants it.
func DirectBuffer(n int) []byte {
	n = (n + DirectAlign - 1) / DirectAlign * DirectAlign
	b := make([]byte, n+DirectAlign)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) % DirectAlign)
	return b[skip : skip+n : skip+n]
}
