package devstack

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"time"

	"gatehouse/internal/wholefile"
)

// certLife is how long the certificate of a data folder is good; it is made
// anew at each start.
const certLife = 30 * 24 * time.Hour

// certificates are those of control's service for sidecars: an authority that
// is forgotten at once, and what it vouched for.
type certificates struct{ ca, cert, key []byte } // PEM

func newCertificates(now time.Time) (certificates, error) {
	caKey, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	key, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		return certificates{}, err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gatehouse dev"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certLife),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "control"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	caDER, err1 := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	leafDER, err2 := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	keyDER, err3 := x509.MarshalPKCS8PrivateKey(key)
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return certificates{ca: block("CERTIFICATE", caDER), cert: block("CERTIFICATE", leafDER), key: block("PRIVATE KEY", keyDER)},
		errors.Join(err1, err2, err3)
}

// Files of control's own folder.
const (
	certFile    = "cert.pem"
	certKeyFile = "key.pem"
	caFile      = "ca.pem" // beside the keys: it is the sidecars'
)

// writeCertificates puts control's certificate where only control can read it,
// and the authority where the sidecars find it.
func (l *layout) writeCertificates(control int) error {
	c, err := newCertificates(time.Now())
	if err != nil {
		return err
	}
	dir := l.path("control")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	err = errors.Join(
		wholefile.Replace(l.path("control", certFile), c.cert, 0o600),
		wholefile.Replace(l.path("control", certKeyFile), c.key, 0o600),
		wholefile.Replace(l.path("keys", caFile), c.ca, 0o600),
	)
	if err != nil || control == ownUID {
		return err
	}
	for _, path := range []string{l.path("control", certFile), l.path("control", certKeyFile), dir} {
		err = errors.Join(err, os.Chown(path, control, control))
	}
	return err
}
