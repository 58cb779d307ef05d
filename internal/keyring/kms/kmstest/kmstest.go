// Package kmstest is a key management service on loopback for tests. It speaks
// the parts of two HTTP APIs that package kms uses, and checks what a real
// service checks: tokens and AppRoles of Vault's transit engine, Signature
// Version 4 of AWS KMS, associated data, keys that do not exist, rotation.
//
// It owns: nothing that lasts. It must not be used outside tests.
package kmstest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// What the service lets in.
const (
	Token    = "s.test-token"
	RoleID   = "role"
	SecretID = "secret-id"
	AccessID = "AKIDTEST"
	Secret   = "test/secret+key"
	Region   = "eu-test-1"
)

// Service is a running service with keys in memory. Safe for concurrent use.
type Service struct {
	URL string

	mu    sync.Mutex
	keys  map[string][][]byte // versions of each key, the first is 1; guarded by mu
	down  int                 // requests still to be answered with 503; negative: all; guarded by mu
	asked int                 // requests; guarded by mu
}

// Start runs a service until the test ends, with one key of the given name.
func Start(t testing.TB, key string) *Service {
	s := &Service{keys: map[string][][]byte{}}
	s.Rotate(key)
	h := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(h.Close)
	s.URL = h.URL
	return s
}

// Rotate adds a version to a key, or makes it. Older versions still decrypt.
func (s *Service) Rotate(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := make([]byte, 32)
	rand.Read(b)
	s.keys[key] = append(s.keys[key], b)
}

// Remove destroys a key.
func (s *Service) Remove(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, key)
}

// Down has the next n requests answered with 503, all where n is negative.
func (s *Service) Down(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = n
}

// Asked is how many requests came.
func (s *Service) Asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// failure is an answer that is no success.
type failure struct {
	status int
	kind   string // of AWS
	text   string
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.down != 0 {
		s.down = max(s.down-1, -1)
		http.Error(w, `{"errors":["Vault is sealed"]}`, http.StatusServiceUnavailable)
		return
	}
	body, _ := io.ReadAll(r.Body)
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		out, f := s.aws(r, strings.TrimPrefix(target, "TrentService."), body)
		answer(w, out, f, map[string]string{"__type": "com.amazonaws.kms#" + f.kind, "message": f.text})
		return
	}
	out, f := s.vault(r, body)
	answer(w, out, f, map[string][]string{"errors": {f.text}})
}

func answer(w http.ResponseWriter, out any, f failure, text any) {
	if f.status != 0 {
		w.WriteHeader(f.status)
		out = text
	}
	_ = json.NewEncoder(w).Encode(out) // a client that went away gets none
}

// vault is the transit engine mounted at transit/, and AppRole.
func (s *Service) vault(r *http.Request, body []byte) (any, failure) {
	var in struct {
		Plaintext, Ciphertext string
		Associated            []byte `json:"associated_data"`
		RoleID                string `json:"role_id"`
		SecretID              string `json:"secret_id"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, failure{status: 400, text: err.Error()}
	}
	if r.URL.Path == "/v1/auth/approle/login" {
		if in.RoleID != RoleID || in.SecretID != SecretID {
			return nil, failure{status: 400, text: "invalid role or secret ID"}
		}
		return map[string]any{"auth": map[string]string{"client_token": Token}}, failure{}
	}
	if r.Header.Get("X-Vault-Token") != Token {
		return nil, failure{status: 403, text: "permission denied"}
	}
	parts := strings.Split(r.URL.Path, "/")
	if len(parts) != 5 || parts[2] != "transit" {
		return nil, failure{status: 404, text: "no handler for route"}
	}
	versions, ok := s.keys[parts[4]]
	if !ok {
		return nil, failure{status: 400, text: "encryption key not found"}
	}
	switch parts[3] {
	case "encrypt":
		plain, err := base64.StdEncoding.DecodeString(in.Plaintext)
		if err != nil {
			return nil, failure{status: 400, text: "failed to base64-decode plaintext"}
		}
		c := base64.StdEncoding.EncodeToString(seal(versions[len(versions)-1], plain, in.Associated))
		return map[string]any{"data": map[string]any{"ciphertext": fmt.Sprintf("vault:v%d:%s", len(versions), c), "key_version": len(versions)}}, failure{}
	case "decrypt":
		plain, ok := openVersion(versions, in.Ciphertext, in.Associated)
		if !ok {
			return nil, failure{status: 400, text: "cipher: message authentication failed"}
		}
		return map[string]any{"data": map[string]string{"plaintext": base64.StdEncoding.EncodeToString(plain)}}, failure{}
	}
	return nil, failure{status: 404, text: "unsupported path"}
}

// openVersion opens "vault:vN:base64".
func openVersion(versions [][]byte, text string, associated []byte) ([]byte, bool) {
	parts := strings.SplitN(text, ":", 3)
	if len(parts) != 3 || parts[0] != "vault" {
		return nil, false
	}
	n, err := strconv.Atoi(strings.TrimPrefix(parts[1], "v"))
	sealed, err2 := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || err2 != nil || n < 1 || n > len(versions) {
		return nil, false
	}
	return open(versions[n-1], sealed, associated)
}

// aws is KMS.
func (s *Service) aws(r *http.Request, op string, body []byte) (any, failure) {
	if why := checkSignature(r, body); why != "" {
		return nil, failure{403, "InvalidSignatureException", why}
	}
	var in struct {
		KeyID             string `json:"KeyId"`
		Plaintext         []byte
		CiphertextBlob    []byte
		EncryptionContext map[string]string
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, failure{400, "SerializationException", err.Error()}
	}
	versions, ok := s.keys[in.KeyID]
	if !ok {
		return nil, failure{400, "NotFoundException", "Key '" + in.KeyID + "' does not exist"}
	}
	arn := "arn:aws:kms:" + Region + ":1:key/" + in.KeyID
	bound, _ := json.Marshal(in.EncryptionContext) // sorted by key
	switch op {
	case "DescribeKey":
		return map[string]any{"KeyMetadata": map[string]any{"KeyId": in.KeyID, "Arn": arn, "Enabled": true}}, failure{}
	case "Encrypt":
		blob := append([]byte{byte(len(versions))}, seal(versions[len(versions)-1], in.Plaintext, bound)...)
		return map[string]any{"CiphertextBlob": blob, "KeyId": arn}, failure{}
	case "Decrypt":
		if b := in.CiphertextBlob; len(b) > 0 && int(b[0]) >= 1 && int(b[0]) <= len(versions) {
			if plain, ok := open(versions[b[0]-1], b[1:], bound); ok {
				return map[string]any{"Plaintext": plain, "KeyId": arn}, failure{}
			}
		}
		return nil, failure{400, "InvalidCiphertextException", ""}
	}
	return nil, failure{400, "UnknownOperationException", op}
}

// checkSignature says what is wrong with a request's Signature Version 4.
func checkSignature(r *http.Request, body []byte) string {
	auth := r.Header.Get("Authorization")
	field := func(name string) string {
		_, rest, _ := strings.Cut(auth, name+"=")
		v, _, _ := strings.Cut(rest, ",")
		return v
	}
	scope := strings.Split(field("Credential"), "/")
	stamp := r.Header.Get("X-Amz-Date")
	if len(scope) != 5 || scope[0] != AccessID || len(stamp) < 8 || scope[1] != stamp[:8] || scope[2] != Region || scope[3] != "kms" {
		return "bad credential scope"
	}
	canonical := r.Method + "\n/\n\n"
	for name := range strings.SplitSeq(field("SignedHeaders"), ";") {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		canonical += name + ":" + value + "\n"
	}
	if !strings.Contains(field("SignedHeaders"), "x-amz-target") {
		return "the target is not signed"
	}
	sum := func(b []byte) string { h := sha256.Sum256(b); return hex.EncodeToString(h[:]) }
	canonical += "\n" + field("SignedHeaders") + "\n" + sum(body)
	key := []byte("AWS4" + Secret)
	hash := func(k []byte, s string) []byte { m := hmac.New(sha256.New, k); m.Write([]byte(s)); return m.Sum(nil) }
	for _, part := range scope[1:] {
		key = hash(key, part)
	}
	want := hex.EncodeToString(hash(key, "AWS4-HMAC-SHA256\n"+stamp+"\n"+strings.Join(scope[1:], "/")+"\n"+sum([]byte(canonical))))
	if want != field("Signature") {
		return "the signature does not match"
	}
	return ""
}

func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // keys have 32 bytes
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return a
}

func seal(key, plain, associated []byte) []byte {
	nonce := make([]byte, 12)
	rand.Read(nonce)
	return gcm(key).Seal(nonce, nonce, plain, associated)
}

func open(key, sealed, associated []byte) ([]byte, bool) {
	if len(sealed) < 12 {
		return nil, false
	}
	b, err := gcm(key).Open(nil, sealed[:12], sealed[12:], associated)
	return b, err == nil
}
