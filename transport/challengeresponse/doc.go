// Package challengeresponse is the challenge-response API of Project Veraison, by which Evidence goes to
// a verifier and a signed Attestation Result comes back. [Client] asks, [NewHandler] answers. Both see
// bytes under media types only: what is in Evidence and results is for others to look into, and so are
// the keys that they are signed with.
//
//	POST   /challenge-response/v1/newSession?nonce=B64   or ?nonceSize=32
//	       201, Location: session/ID, and the session
//	POST   /challenge-response/v1/session/ID             the Evidence, under its media type
//	       200 or 202, and the session
//	GET    /challenge-response/v1/session/ID             the session again
//	DELETE /challenge-response/v1/session/ID             204
//
// A session is a JSON object: nonce, expiry, accept (media types of Evidence), status (waiting, processing,
// complete, failed) and result. Where the result is no JSON Web Token, result-type is its media type and
// result is base64url; that member is this project's, and services that do not know it leave it out.
package challengeresponse
