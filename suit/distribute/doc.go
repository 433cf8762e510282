// Package distribute makes the manifests by which a distribution system, such as a TAM, hands each
// device its own key to what a developer signed and encrypted once.
//
// The developer encrypts a payload with a content key and tells that key to the distribution system
// alone (suit/describe: encrypt with info: separate). For each device, the distribution system
// wraps the key to that device and signs a small manifest of its own that depends on the
// developer's. The developer's signature stays as it is, the ciphertext is the same for everybody,
// and only the one device can open it (trust domains §template-override-encryption-info):
//
//	key, err := suit.RecoverPayloadKey(infoFromTheDeveloper, cose.DecryptKeys{mine})
//	envelope, err := distribute.Key{
//		ID: suit.NewComponentID("keys", "hello"), SequenceNumber: 1,
//		Developer: developer, DeveloperURI: "https://example.com/hello.suit", Device: deviceUUID,
//	}.Wrap(rand.Reader, key, devicePublicKey)
//	err = envelope.Sign(rand.Reader, signer)
//
// Data for one device, or for a group of them, that the distribution system has made itself goes
// into a [Personalization], encrypted to those devices, which may depend on the application that
// reads it. A [Delivery] is both at once: the key, and data.
//
// What the distribution system may do on a device is the device's decision: its signer needs rights
// to the manifest identifiers of its own manifests and, for personalization, to the component of
// the data. It needs none to the developer's components.
package distribute
