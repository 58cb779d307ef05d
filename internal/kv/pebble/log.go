package pebble

import "strings"

// isLog says whether a file is a write-ahead log.
func isLog(name string) bool { return strings.HasSuffix(name, ".log") }

// zeroStep is how many bytes of a new log are written as zeros at a time.
const zeroStep = 1 << 20

// logFile is a write-ahead log open for writing. Where a file's blocks hold data
// and its size stays, a sync writes what was appended and nothing else, which
// takes the disk little more than half the time. A log that is used again is
// so already. A new one is filled with zeros, a step ahead of what is written,
// as far as Pebble has it preallocated; its reader takes zeros for the end.
type logFile struct {
	file
	at   int64 // where the next Write goes
	full int64 // the file holds bytes up to here
	end  int64 // it is preallocated up to here; 0 where no zeros are written
	zero []byte
}

// Preallocate implements vfs.File.
func (f *logFile) Preallocate(off, n int64) error {
	st, err := f.Stat()
	if err == nil {
		f.full, f.end = max(f.full, st.Size()), off+n
	}
	return f.File.Preallocate(off, n)
}

// Write implements vfs.File.
func (f *logFile) Write(p []byte) (int, error) {
	if f.at+int64(len(p)) > f.full && f.full < f.end {
		f.fill(int64(len(p)))
	}
	n, err := f.File.Write(p)
	f.at += int64(n)
	return n, err
}

// fill writes zeros for the next n bytes and a step. It is an improvement only:
// where it fails, the log grows by what is written.
func (f *logFile) fill(n int64) {
	if f.zero == nil {
		f.zero = make([]byte, zeroStep)
	}
	for want := min(max(f.full, f.at+n)+zeroStep/2, f.end); f.full < want; {
		k := min(zeroStep, f.end-f.full)
		if _, err := f.WriteAt(f.zero[:k], f.full); err != nil {
			f.end = 0
			return
		}
		f.full += k
	}
}
