package servers

import (
	"net"
	"net/http"
	"strings"
	"testing"
)

// GCSServer is a running server that speaks the JSON API of Google Cloud
// Storage.
type GCSServer struct {
	Endpoint string // URL
}

// GCS starts fake-gcs-server in memory.
func GCS(t testing.TB) *GCSServer {
	t.Helper()
	binary := find(t, "fake-gcs-server")
	port := freePort(t)
	s := &GCSServer{Endpoint: "http://" + net.JoinHostPort(host(), port)}
	start(t, port, binary, "-backend", "memory", "-scheme", "http", "-host", host(), "-port", port,
		"-external-url", s.Endpoint, "-log-level", "error")
	return s
}

// Bucket makes an empty bucket.
func (s *GCSServer) Bucket(t testing.TB, name string) {
	t.Helper()
	resp, err := http.Post(s.Endpoint+"/storage/v1/b?project=test", "application/json", strings.NewReader(`{"name":"`+name+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("make bucket %s: %s", name, resp.Status)
	}
}
