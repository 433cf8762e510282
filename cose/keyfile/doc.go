// Package keyfile opens private keys where services keep them: in PEM files, in PEM files that are encrypted
// with age (https://age-encryption.org), and in PKCS #11 tokens.
//
//	secret, err := keyfile.Source{Credential: "tam-keys"}.Read()
//	opener := &keyfile.Opener{Secret: secret}
//	defer opener.Close()
//	key, err := opener.Open("keys/esp256.pem.age")
//	signer, err := key.Signer()
//
// What encrypts the files, a [Secret], comes from a file, from the environment or from a credential of
// systemd, and never from the arguments of a program, which everybody on the machine sees. A file that is
// not encrypted and that others can read is refused.
package keyfile
