package s3

import (
	"net/http"
	"os"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/pgkeep/pgkeep/state/repository/store"
)

// credentialChain looks where the AWS programs look: the environment, the files of ~/.aws with their profile, then the
// identity of the machine, container or service account. A file or profile that the URL names is asked alone.
func credentialChain(name, profile string) *credentials.Credentials {
	file := &credentials.FileAWSCredentials{Filename: name, Profile: profile}
	if name != "" || profile != "" {
		return credentials.New(&chain{[]credentials.Provider{file}})
	}
	return credentials.New(&chain{[]credentials.Provider{
		&credentials.EnvAWS{}, file, &credentials.IAM{Client: &http.Client{Timeout: 5 * time.Second}, Region: os.Getenv("AWS_REGION")},
	}})
}

// chain takes the first provider that has a key. Unlike the client library's own, it never falls back to asking without
// any: the refusal that follows would name the wrong cause.
type chain struct{ providers []credentials.Provider }

// current is what was found; the zero value is expired.
var _ credentials.Provider = (*chain)(nil)

// Retrieve is credentials.Provider's.
func (c *chain) Retrieve() (credentials.Value, error) { return c.RetrieveWithCredContext(nil) }

// RetrieveWithCredContext is credentials.Provider's.
func (c *chain) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	for i, p := range c.providers {
		v, err := p.RetrieveWithCredContext(cc)
		if err == nil && v.AccessKeyID != "" && v.SecretAccessKey != "" {
			c.providers[0], c.providers[i] = c.providers[i], c.providers[0] // the one that answered is asked when it expires
			return v, nil
		}
	}
	return credentials.Value{}, &store.Trouble{
		Kind: store.Denied, Text: "there are no credentials for S3: neither in the file or profile of the URL, nor in the environment, in ~/.aws, or of this machine",
		Hint: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write a profile into ~/.aws/credentials, for the user who runs pgkeep",
	}
}

// IsExpired is credentials.Provider's.
func (c *chain) IsExpired() bool { return c.providers[0].IsExpired() }
