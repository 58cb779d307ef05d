package daemon

import (
	"os"
	"testing"
)

func TestProgramSize(t *testing.T) {
	maps := `00400000-01cb5000 r-xp 00000000 fe:00 1234                               /usr/bin/strake
01cb5000-03c00000 r--p 018b5000 fe:00 1234                               /usr/bin/strake
03c00000-03d00000 rw-p 03800000 fe:00 1234                               /usr/bin/strake
c000000000-c000400000 rw-p 00000000 00:00 0 
7f0000000000-7f0000100000 r--p 00000000 fe:00 99                         /usr/lib/libc.so.6
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]
`
	if n := programSize([]byte(maps)); n != 0x03d00000-0x00400000 {
		t.Errorf("%d bytes", n)
	}
	for _, bad := range []string{"", "x", "zz-yy r-xp 0 0 0 /x\n", "1 2 3 4 5 6\n"} {
		if n := programSize([]byte(bad)); n != 0 {
			t.Errorf("%q: %d bytes", bad, n)
		}
	}
	own, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Skip(err)
	}
	exe, err := os.Stat("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if n := programSize(own); n < exe.Size()/4 || n > 2*exe.Size() {
		t.Errorf("%d bytes are mapped of a program of %d", n, exe.Size())
	}
}
