"""Requests as teams write them, each with the type of task that it is."""

# ruff: noqa: E501 - one request a line reads better than one over three

from __future__ import annotations

from tierq_insight.audit import Call
from tierq_shared.specs import TaskType


def chat(user: str, system: str = "", output: str | None = None, **more: object) -> Call:
    return Call(input=user, instructions=system, output=output, **more)  # type: ignore[arg-type]


REQUESTS: list[tuple[TaskType, Call]] = [
    # classify
    ("classify", chat("Great phone, weak battery.", "You label reviews. Reply with only positive, negative or mixed.")),
    ("classify", chat("What is the sentiment of this review?\n\nThe soup was cold.", output="negative")),
    ("classify", chat("Is the following comment toxic? Answer yes or no.\n\nYou are all idiots.", output="Yes")),
    ("classify", chat("Where is my parcel?", "Route this ticket to one of: sales, support, billing.", "support")),
    ("classify", chat("Assign a category to the transaction: ACME HARDWARE 12.99\nCategories: food, home, travel")),
    ("classify", chat("Which of these topics fits best: politics, sport, culture? Text: The match ended 2:1.", "", "sport")),
    ("classify", chat("my card was stolen", "Determine the intent of the user's message.", '{"intent": "lost_card"}')),
    ("classify", chat("Triage this bug report as P1, P2 or P3: the till crashes on start", output="P1")),
    ("classify", chat("Is this email spam?\n\nYou have won 1,000,000", output="spam")),
    ("classify", chat("Decide whether the two addresses are the same place.\nA: 1 High St\nB: 1 High Street", output="yes")),
    ("classify", chat("Tag the article with one label from this list:\n- economy\n- science\n- arts\n\nA new comet …")),
    ("classify", chat("refund pls", "Classify the ticket.\nLabels: billing, bug, praise", '{"label": "billing", "confidence": 0.9}')),
    # extract
    ("extract", chat("Extract the name, date and total from this invoice as JSON.\n\nACME, 3 May, 12.50")),
    ("extract", chat("John met Ann in Paris.", "Find all named entities in the text.", '{"person": ["John", "Ann"], "place": ["Paris"]}')),
    ("extract", chat("Pull out every phone number from the text below.\n\nCall 555-1234.")),
    ("extract", chat("Parse this address into street, city and zip: 1 High St, Saltby 12345", output='{"street": "1 High St", "city": "Saltby"}')),
    ("extract", chat("2 x espresso 5.80", "Return a JSON object with the keys item, count, price.", asks_json=True)),
    ("extract", chat("CV: Ann Lee, 5 years at ACME", "Fill in the following form from the CV: name, years, employer")),
    ("extract", chat("Which medicines does the note mention? Give JSON.\n\nPatient takes ibuprofen.", asks_json=True)),
    ("extract", chat("Get the due date out of this letter.\n\nPlease pay by 4 June.", output='{"due": "06-04", "year": null}')),
    # answer from passages
    ("answer", chat("Context:\nThe shop opens at nine.\n\nQuestion: When does it open?")),
    ("answer", chat("Answer the question based on the following context.\n\nRiga is a city.\n\nWhat is Riga?")),
    ("answer", chat("<document>The lease ends in May.</document>\nWhen does the lease end?", "Use only the given document.")),
    ("answer", chat("How do I reset it?", "You answer from the knowledge base.\n\nKnowledge base:\nHold the button for 5 s.")),
    ("answer", chat("[1] Water boils at 100 degrees at sea level.\n[2] Ice melts at 0 degrees.\n\nWhen does water boil?")),
    ("answer", chat("Using the provided sources, say who founded it. Cite them.\n\nSources:\nFounded by Ann.\n\nWho founded it?")),
    ("answer", chat("Passage: The bridge is 40 m long.\nQ: How long is the bridge?\nA:")),
    ("answer", chat("What does clause 4 say?", "You are a legal assistant. Answer from the excerpts only.\n<excerpt>4. Rent is due monthly.</excerpt>")),
    # generate
    ("generate", chat("Write a polite reply to a customer whose parcel is late.")),
    ("generate", chat("Summarise the meeting notes in five lines.\n\nAnn: we ship in May. Bob: what about tests?")),
    ("generate", chat("Translate into German: Where is the station?")),
    ("generate", chat("hello, how are you today?", "You are a friendly companion.")),
    ("generate", chat("Explain recursion to a child.")),
    ("generate", chat("Give me ten names for a bakery.")),
    ("generate", chat("Implement quicksort in Rust.")),
    ("generate", chat("Rewrite this sentence so that it sounds less harsh: You are wrong.")),
    ("generate", chat("Draft a blog post on why classification of waste matters.")),
    ("generate", chat("What is the capital of Latvia?")),
    ("generate", chat("Schreibe eine kurze Absage an einen Bewerber.")),
    ("generate", chat("A train leaves at 9 and travels 120 km at 60 km/h. When does it arrive?")),
    ("generate", chat("Which planet is largest?\nA. Mars\nB. Jupiter\nC. Venus\nAnswer:", output="B")),
    ("generate", chat("Create a product description: red mug, 300 ml, dishwasher safe.")),
    # a second set
    ("classify", chat("Label the tone of the mail as formal, neutral or casual.\n\nHey mate, all good?", output="casual")),
    ("classify", chat("The delivery was late again.", "You are a classifier. Possible classes: complaint, question, other.", "complaint")),
    ("classify", chat("Rate the urgency of this ticket from 1 to 5. Reply with the number only.\n\nServer down!", output="5")),
    ("classify", chat("Does this sentence contain personal data? true/false\n\nCall Ann on 555-1234.", output="true")),
    ("classify", chat("Which department should handle this? HR, IT or Finance.\n\nMy laptop is broken.", output="IT")),
    ("classify", chat("Detect the language of the text. Answer with the ISO code.\n\nBonjour à tous", output="fr")),
    ("extract", chat("List the ingredients and amounts in this recipe as JSON.\n\n2 eggs, 100 g flour", output='{"eggs": 2, "flour": 100}')),
    ("extract", chat("Read the serial number and model from the label text: MODEL X-7 SN 9913", output='{"model": "X-7", "serial": "9913"}')),
    ("extract", chat("Ann Lee, Saltby, 1990", "Convert the line to JSON with name, city and born.")),
    ("extract", chat("Identify all company names mentioned in this article.\n\nACME bought Bolt.", output='["ACME", "Bolt"]')),
    ("extract", chat("Extract key terms from the contract below.\n\nThe tenant pays monthly.")),
    ("answer", chat("Here is an article:\n\nThe comet returns in 2061.\n\nAccording to the article, when does it return?")),
    ("answer", chat("Documents:\n1. Tea is served at four.\n2. Dinner is at seven.\n\nUser question: When is tea?")),
    ("answer", chat("What is the refund period?", "Answer strictly from the policy text.\n\n## Context\nRefunds within 30 days.")),
    ("answer", chat("<context>Ann is the CEO.</context>\n<question>Who is the CEO?</question>")),
    ("answer", chat("Given the following passages, answer the question and cite the passage ids.\n\n[p1] Cats purr.\n\nWhat do cats do?")),
    ("generate", chat("Compose a haiku about rain.")),
    ("generate", chat("Can you help me plan a trip to Riga for three days?")),
    ("generate", chat("Improve the wording: me want cookie")),
    ("generate", chat("Fix the bug in this function:\n```python\ndef f(x): retrun x\n```")),
    ("generate", chat("Shorten this text to 50 words.\n\nOnce upon a time …")),
    ("generate", chat("Write three classification labels that would suit a wine shop.")),
    ("generate", chat("What are the advantages of a heat pump?")),
    ("generate", chat("Continue the story: The door opened and")),
]  # fmt: skip
"""Each set was written before the rules were run on it, and the rules had 35 of the first 42 and 15 of the second 24
right then; all that was wrong but one was said to be guessed. They were mended after both."""

HELD_OUT: list[tuple[TaskType, Call]] = [
    ("classify", chat("the app logs me out all the time", "You sort support mails into: login, billing, other. Output one word.", "login")),
    ("classify", chat("Is the customer angry in this chat? Respond yes or no.\n\nCustomer: I have had enough!", output="yes")),
    ("classify", chat("Choose the best matching product group for: oak table. Groups: furniture, garden, kitchen.", output="furniture")),
    ("classify", chat("Spam or ham?\n\nCheap watches!!!", output="spam")),
    ("classify", chat("Pick the intent: greet, order, complain. Message: good morning", output="greet")),
    ("extract", chat("Parse the receipt and give me merchant, date and total.\n\nCAFE 3 May 5.80", output='{"merchant": "CAFE", "total": 5.8}')),
    ("extract", chat("What are the dimensions in this spec? Return JSON with width and height.\n\n30 x 40 cm")),
    ("extract", chat("Dr Lee, 14:00, room 3", "Turn appointment notes into structured records.", '{"who": "Dr Lee", "room": 3}')),
    ("answer", chat("Use the excerpts to answer.\n\nExcerpt 1: Rent is 900.\nExcerpt 2: Heating is 80.\n\nWhat is the rent?")),
    ("answer", chat("Where is the valve?", "Answer the technician's question from the manual below.\n\nManual: The valve is behind the panel.")),
    ("answer", chat("Read the text and answer.\n\nText: Ann moved to Riga in 1999.\n\nWhere did Ann move?")),
    ("answer", chat("Search results:\n[1] The museum is closed on Mondays and on holidays.\n[2] Tickets are 5.\n\nIs it open today, Monday?")),
    ("generate", chat("Write an email to my landlord about the heating.")),
    ("generate", chat("Suggest a name for a cat.")),
    ("generate", chat("Why is the sky blue?")),
    ("generate", chat("Make this paragraph friendlier: Pay now.")),
    ("generate", chat("Turn these notes into a press release: new shop, Saltby, May.")),
    ("generate", chat("Describe the picture of a harbour at night in two sentences.")),
]  # fmt: skip
"""Written when the rules were done, and not used to change them."""
