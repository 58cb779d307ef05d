package servers

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

// S3Server is a running server that speaks S3.
type S3Server struct {
	Endpoint             string // URL
	AccessKey, SecretKey string
	Dir                  string // where it keeps buckets: each a directory, each object a file
	port                 string
	stop                 func()
}

// S3 starts versitygw over a directory: every precondition of it is kept.
func S3(t testing.TB) *S3Server {
	t.Helper()
	s := &S3Server{AccessKey: "strakekey", SecretKey: "strakesecret", Dir: t.TempDir(), port: freePort(t)}
	s.Endpoint = "http://" + net.JoinHostPort(host(), s.port)
	s.Start(t)
	return s
}

// Start starts a server that was stopped, with what it had.
func (s *S3Server) Start(t testing.TB) {
	t.Helper()
	s.stop = start(t, s.port, find(t, "versitygw"), "--access", s.AccessKey, "--secret", s.SecretKey, "--port", net.JoinHostPort(host(), s.port), "--quiet", "posix", s.Dir)
}

// Stop kills the server. Connections are refused until Start.
func (s *S3Server) Stop() { s.stop() }

// Bucket makes an empty bucket.
func (s *S3Server) Bucket(t testing.TB, name string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(s.Dir, name), 0o755); err != nil {
		t.Fatal(err)
	}
}

// Uploads is the number of multipart uploads that are neither completed nor
// aborted.
func (s *S3Server) Uploads(t testing.TB, bucket string) int {
	t.Helper()
	// versitygw keeps .sgwtmp/multipart/HASH-OF-KEY/UPLOAD.
	found, err := filepath.Glob(filepath.Join(s.Dir, bucket, ".sgwtmp", "multipart", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}
