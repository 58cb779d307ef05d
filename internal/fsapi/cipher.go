package fsapi

// Cipher names an AEAD. The numbers are stored: append only.
type Cipher uint8

// The ciphers.
const (
	CipherNone      Cipher = 0
	CipherAES256GCM Cipher = 1 // NIST SP 800-38D
	CipherXChaCha20 Cipher = 2 // XChaCha20-Poly1305, draft-irtf-cfrg-xchacha
)

var cipherText = [...]string{"none", "aes-256-gcm", "xchacha20-poly1305"}

// String is the cipher's name as in configuration and on the command line.
func (c Cipher) String() string {
	if int(c) < len(cipherText) {
		return cipherText[c]
	}
	return "unknown"
}

// ParseCipher reads what Cipher.String wrote.
func ParseCipher(s string) (Cipher, error) {
	for i, name := range cipherText {
		if s == name {
			return Cipher(i), nil
		}
	}
	return CipherNone, Errorf(Invalid, "%q is not a cipher: want none, aes-256-gcm or xchacha20-poly1305", s)
}
