package servers

import (
	"os"
	"path/filepath"
	"testing"
)

// S3Server is a running server that speaks S3.
type S3Server struct {
	Endpoint             string // URL
	AccessKey, SecretKey string
	dir                  string
}

// S3 starts versitygw over a directory: every precondition of it is kept.
func S3(t testing.TB) *S3Server {
	t.Helper()
	binary := find(t, "versitygw")
	s := &S3Server{AccessKey: "strakekey", SecretKey: "strakesecret", dir: t.TempDir()}
	port := freePort(t)
	s.Endpoint = "http://127.0.0.1:" + port
	start(t, port, binary, "--access", s.AccessKey, "--secret", s.SecretKey, "--port", "127.0.0.1:"+port, "--quiet", "posix", s.dir)
	return s
}

// Bucket makes an empty bucket.
func (s *S3Server) Bucket(t testing.TB, name string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(s.dir, name), 0o755); err != nil {
		t.Fatal(err)
	}
}

// Uploads is the number of multipart uploads that are neither completed nor
// aborted.
func (s *S3Server) Uploads(t testing.TB, bucket string) int {
	t.Helper()
	// versitygw keeps .sgwtmp/multipart/HASH-OF-KEY/UPLOAD.
	found, err := filepath.Glob(filepath.Join(s.dir, bucket, ".sgwtmp", "multipart", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}
