package kms

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/keyring"
)

// aws is the AWS Key Management Service's JSON API,
// docs.aws.amazon.com/kms/latest/APIReference. What a secret is bound to
// travels as its encryption context, which CloudTrail shows.
type aws struct {
	*service
	o Options
}

var _ keyring.Wrapper = (*aws)(nil)

func newAWS(o Options, s *service) (*aws, error) {
	if o.Region == "" {
		return nil, fsapi.Errorf(fsapi.Invalid, "kms %s: region must be set", o.Name)
	}
	return &aws{s, o}, nil
}

// Identity implements keyring.Wrapper.
func (a *aws) Identity() keyring.Identity {
	return keyring.Identity{Name: a.o.Name, Provider: AWS, Key: a.o.Region + "/" + a.o.Key}
}

type awsCrypt struct {
	KeyID      string            `json:"KeyId,omitempty"`
	Plaintext  []byte            `json:",omitempty"`
	Ciphertext []byte            `json:"CiphertextBlob,omitempty"`
	Context    map[string]string `json:"EncryptionContext,omitempty"`
}

func context1(bind []byte) map[string]string {
	return map[string]string{"strake": base64.StdEncoding.EncodeToString(bind)}
}

// Wrap implements keyring.Wrapper.
func (a *aws) Wrap(ctx context.Context, secret, bind []byte) ([]byte, error) {
	got, err := a.call(ctx, "Encrypt", awsCrypt{KeyID: a.o.Key, Plaintext: secret, Context: context1(bind)})
	if err == nil && len(got.Ciphertext) == 0 {
		err = fsapi.Errorf(fsapi.IO, "kms %s answered without a ciphertext", a.o.Name)
	}
	return got.Ciphertext, err
}

// Unwrap implements keyring.Wrapper. Naming the key keeps one of another
// account from being used for it.
func (a *aws) Unwrap(ctx context.Context, sealed, bind []byte) ([]byte, error) {
	got, err := a.call(ctx, "Decrypt", awsCrypt{KeyID: a.o.Key, Ciphertext: sealed, Context: context1(bind)})
	return got.Plaintext, err
}

func (a *aws) call(ctx context.Context, op string, body awsCrypt) (awsCrypt, error) {
	var out awsCrypt
	cred, err := a.credentials()
	if err != nil {
		return out, err
	}
	got, err := a.post(ctx, a.o.Address+"/", body, func(r *http.Request, b []byte) error {
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		r.Header.Set("X-Amz-Target", "TrentService."+op)
		sign(r, b, cred, a.o.Region, "kms", a.o.Clock.Now())
		return nil
	})
	if err != nil {
		return out, err
	}
	if got.status != http.StatusOK {
		return out, a.refused(op, got)
	}
	return out, a.decode(got, &out)
}

// awsKinds are errors of KMS, and those common to all services, that are not
// mended by asking again.
var awsKinds = map[string]fsapi.Kind{
	"AccessDeniedException": fsapi.Unauthorized, "UnrecognizedClientException": fsapi.Unauthorized,
	"InvalidSignatureException": fsapi.Unauthorized, "SignatureDoesNotMatch": fsapi.Unauthorized,
	"ExpiredTokenException": fsapi.Unauthorized, "IncompleteSignature": fsapi.Unauthorized,
	"InvalidClientTokenId": fsapi.Unauthorized, "MissingAuthenticationToken": fsapi.Unauthorized, "OptInRequired": fsapi.Unauthorized,
	"DisabledException": fsapi.Unauthorized, "KMSInvalidStateException": fsapi.Unauthorized, "InvalidKeyUsageException": fsapi.Unauthorized,
	"NotFoundException":          fsapi.NotExist,
	"InvalidCiphertextException": fsapi.Invalid, "IncorrectKeyException": fsapi.Invalid, "ValidationException": fsapi.Invalid, "SerializationException": fsapi.Invalid,
}

// refused is what an error of the service means. What is not known to be final
// may be mended by asking again: throttling, a key being unavailable, a fault.
func (a *aws) refused(op string, got answer) error {
	var said struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	_ = json.Unmarshal(got.body, &said) // a proxy's page has nothing to show
	name := said.Type[strings.LastIndexByte(said.Type, '#')+1:]
	kind, ok := awsKinds[name]
	if !ok {
		kind = fsapi.IO
	}
	return fsapi.Errorf(kind, "kms %s refused %s with status %d: %s %s", a.o.Name, op, got.status, name, said.Message)
}

// credentials are read anew for each request.
func (a *aws) credentials() (awsCredentials, error) {
	if a.o.CredentialsFile == "" {
		env := a.o.LookupEnv
		c := awsCredentials{env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY"), env("AWS_SESSION_TOKEN")}
		if c.ID == "" || c.Secret == "" {
			return c, fsapi.Errorf(fsapi.Unauthorized, "kms %s: no credentials: set credentials_file, or the environment's AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", a.o.Name)
		}
		return c, nil
	}
	b, err := readSmall(a.o.FS, a.o.CredentialsFile)
	if err != nil {
		return awsCredentials{}, fsapi.Wrap(fsapi.Unauthorized, err, "kms "+a.o.Name)
	}
	c := parseCredentials(string(b), a.o.Profile)
	if c.ID == "" || c.Secret == "" {
		return c, fsapi.Errorf(fsapi.Unauthorized, "kms %s: %s has no aws_access_key_id and aws_secret_access_key in profile [%s]", a.o.Name, a.o.CredentialsFile, a.o.Profile)
	}
	return c, nil
}

// parseCredentials reads a profile of a shared credentials file,
// docs.aws.amazon.com/sdkref/latest/guide/file-format.html.
func parseCredentials(text, profile string) (c awsCredentials) {
	in := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			in = strings.Trim(line, "[] \t") == profile
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !in || !ok || strings.HasPrefix(line, "#") {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "aws_access_key_id":
			c.ID = value
		case "aws_secret_access_key":
			c.Secret = value
		case "aws_session_token":
			c.Session = value
		}
	}
	return c
}
