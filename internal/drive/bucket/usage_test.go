package bucket

import "testing"

func FuzzParseUsage(f *testing.F) {
	f.Add(formatUsage(12345))
	f.Add([]byte("strake usage 1 bytes 5 crc32c 00000000\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, ok := parseUsage(b)
		if ok && (n < 0 || string(formatUsage(n)) != string(b)) {
			t.Errorf("%q is accepted as %d", b, n)
		}
	})
}
