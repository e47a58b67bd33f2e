// Package s3 keeps a repository in a bucket of Amazon S3 or of a service that speaks its protocol.
//
// Every object is one PUT with "If-None-Match: *" and Content-MD5, never a multipart upload: minio-go drops the condition
// on those silently. An object is looked at by a GET of its first byte instead of a HEAD, whose 404 does not tell a
// missing object from a missing bucket. The token of a put is kept as metadata, so that a put whose answer was lost is
// known again. Credentials come from where the AWS programs take them.
package s3
