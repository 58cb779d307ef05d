package kms

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"
)

// awsCredentials are an access key, with a session token where it is temporary.
type awsCredentials struct{ ID, Secret, Session string }

// sign adds a Signature Version 4 to a request without query, over its body,
// host and all headers it has:
// docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.
func sign(r *http.Request, body []byte, c awsCredentials, region, service string, now time.Time) {
	stamp := now.UTC().Format("20060102T150405Z")
	r.Header.Set("X-Amz-Date", stamp)
	if c.Session != "" {
		r.Header.Set("X-Amz-Security-Token", c.Session)
	}
	lines := map[string]string{"host": r.URL.Host}
	for name, values := range r.Header {
		lines[strings.ToLower(name)] = strings.TrimSpace(strings.Join(values, ","))
	}
	var names []string
	for name := range lines {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	b.WriteString(r.Method + "\n/\n\n")
	for _, name := range names {
		b.WriteString(name + ":" + lines[name] + "\n")
	}
	signed := strings.Join(names, ";")
	b.WriteString("\n" + signed + "\n" + hexHash(body))

	scope := strings.Join([]string{stamp[:8], region, service, "aws4_request"}, "/")
	key := []byte("AWS4" + c.Secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	sig := mac(key, "AWS4-HMAC-SHA256\n"+stamp+"\n"+scope+"\n"+hexHash([]byte(b.String())))
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+c.ID+"/"+scope+", SignedHeaders="+signed+", Signature="+hex.EncodeToString(sig))
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

func hexHash(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}
