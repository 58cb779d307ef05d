package gcs_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/strakefs/strake/internal/backoff"
	"github.com/strakefs/strake/internal/object"
	"github.com/strakefs/strake/internal/object/gcs"
	"github.com/strakefs/strake/internal/object/objecttest"
	"github.com/strakefs/strake/internal/object/provider"
)

// session is a server of one resumable upload, as Google describes it. It breaks
// off requests as told.
type session struct {
	t  *testing.T
	mu sync.Mutex
	// All below is guarded by mu.
	stored  []byte
	done    bool
	queries int
	request int // that carried bytes
	breaks  func(request, length int) (keep int, answer bool)
}

// ServeHTTP implements http.Handler.
func (s *session) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodPost {
		w.Header().Set("Location", "http://"+r.Host+"/session")
		return
	}
	span, total, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Content-Range"), "bytes "), "/")
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Errorf("body: %v", err)
	}
	answer := true
	if span == "*" {
		s.queries++
	} else {
		var first, last int
		if _, err := fmt.Sscanf(span, "%d-%d", &first, &last); err != nil || last-first+1 != len(body) || first != len(s.stored) {
			s.t.Errorf("range %q of %d bytes, %d are stored", span, len(body), len(s.stored))
		}
		s.request++
		keep := len(body)
		keep, answer = s.breaks(s.request, keep)
		s.stored = append(s.stored, body[:keep]...)
	}
	if size, err := strconv.Atoi(total); err == nil && len(s.stored) == size {
		s.done = true
	}
	switch {
	case !answer:
		panic(http.ErrAbortHandler) // the connection breaks
	case s.done:
		fmt.Fprintf(w, `{"name":"x","size":"%d","generation":"7"}`, len(s.stored))
	default:
		if len(s.stored) > 0 {
			w.Header().Set("Range", fmt.Sprintf("bytes=0-%d", len(s.stored)-1))
		}
		w.WriteHeader(http.StatusPermanentRedirect)
	}
}

// TestResumes breaks connections in the midst of parts, before and after their
// bytes were stored: what arrives is what was written.
func TestResumes(t *testing.T) {
	const chunk = 256 << 10
	breaks := map[string]func(request, length int) (int, bool){
		"never":           func(_, n int) (int, bool) { return n, true },
		"before":          func(r, n int) (int, bool) { return n * (1 - r%2), r%2 == 0 },
		"after":           func(r, n int) (int, bool) { return n, r%2 == 0 },
		"in the midst":    func(r, n int) (int, bool) { return n - n/2*(r%2), r%2 == 0 },
		"takes a half":    func(_, n int) (int, bool) { return (n + 1) / 2, true },
		"after each half": func(_, n int) (int, bool) { return (n + 1) / 2, n == 1 },
	}
	for name, broken := range breaks {
		for _, size := range []int{2 * chunk, 3*chunk + 5, 3 * chunk} {
			t.Run(fmt.Sprintf("%s %d", name, size), func(t *testing.T) {
				s := &session{t: t, breaks: broken}
				srv := httptest.NewServer(s)
				defer srv.Close()
				store := opened(t, gcs.Options{Bucket: "b", Endpoint: srv.URL, Options: provider.Options{PartSize: chunk, Retry: backoff.Policy{Attempts: 40}}})
				data := objecttest.Bytes(1, size)
				w, err := store.Create(t.Context(), "x", 0, object.Condition{})
				if err == nil {
					_, err = io.Copy(w, bytes.NewReader(data))
				}
				if err != nil {
					t.Fatal(err)
				}
				if v, err := w.Commit(t.Context()); err != nil || v != "7" {
					t.Errorf("commit: %q, %v", v, err)
				}
				if sha256.Sum256(s.stored) != sha256.Sum256(data) {
					t.Errorf("%d bytes arrived, other than the %d written", len(s.stored), size)
				}
				if (name == "never" || name == "takes a half") && size%chunk != 0 && s.queries != 0 {
					t.Errorf("%d questions, and no answer was lost", s.queries)
				}
			})
		}
	}
}
